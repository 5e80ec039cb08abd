# Perl, Frontier::RPC (Debian: libfrontier-rpc-perl): a member that serves a port. Usage: perl frontier.pl URL
use strict; use warnings;
use Frontier::Client; use Frontier::Daemon;
$| = 1;
binmode STDOUT, ':encoding(UTF-8)';
my $relay = Frontier::Client->new(url => $ARGV[0]);

my $methods = {
    'notify'          => sub { print "got $_[0]{data}\n"; return $relay->boolean(1) },
    'frontier.double' => sub { return 2 * $_[0]{data} },
};
# It closes the connection after each answer, as in HTTP/1.0, but calls that 1.1, and the next call would meet the closed one.
$HTTP::Daemon::PROTO = 'HTTP/1.0';
# Frontier::Daemon begins to serve in its constructor, so what it needs is known before: a free port.
my $probe = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0);
my $port = $probe->sockport; close $probe;
unless (fork) {
    Frontier::Daemon->new(LocalAddr => '127.0.0.1', LocalPort => $port, ReuseAddr => 1, methods => $methods);
    exit;
}
sleep 1 until IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);

my $me = $relay->call('relay.register', { port => $port, methods => ['frontier.double'] });
my $kept = $relay->call('relay.fetch', { host_id => $me->{host_id}, after => 0, max => 1, wait => 0 });
print "kept $_->{data}\n" for @{ $kept->{messages} };
$relay->call('relay.relay', { host_id => $me->{host_id}, channel => 'hello', data => 'Frontier' });
print 'answer ', $relay->call('ham.spam.add', { data => [40, 2] }), "\n";
$SIG{TERM} = sub { kill 'TERM', 0 }; setpgrp;
wait;
