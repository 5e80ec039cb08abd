# Perl, XMLRPC::Lite (Debian: libxmlrpc-lite-perl): a member that serves a port, or one that fetches.
# Usage: perl lite.pl URL ?fetch?
use strict; use warnings;
use XMLRPC::Lite; use XMLRPC::Transport::HTTP;
$| = 1;
binmode STDOUT, ':encoding(UTF-8)';
my ($url, $mode) = (@ARGV, '');
my $relay = XMLRPC::Lite->proxy($url, timeout => 40);
sub call {
    my $answer = $relay->call(@_);
    die $answer->faultstring if $answer->fault;
    return $answer->result;
}

# What others may call. The library puts the name of the package before the arguments.
sub notify { print "got $_[1]{data}\n"; return XMLRPC::Data->type(boolean => 1) }
sub lite::double { return 2 * $_[1]{data} }

my ($server, %about);
if ($mode ne 'fetch') {
    $server = XMLRPC::Transport::HTTP::Daemon->new(LocalAddr => '127.0.0.1', LocalPort => 0);
    $server->dispatch_to('notify', 'lite::double');
    # It would evaluate "require NAME" for any package that a caller names, and so call exit: only these get that far.
    $server->on_action(sub {
        my (undef, $package, $name) = @_;
        my $wanted = defined $package ? "$package.$name" : $name;
        die "no such method\n" unless grep { $_ eq $wanted } 'notify', 'lite.double';
    });
    # The code of a Fault is a number; the library's own are words.
    ($XMLRPC::Constants::FAULT_CLIENT, $XMLRPC::Constants::FAULT_SERVER) = (1, 2);
    %about = (port => $server->sockport, methods => ['lite.double']);
}
my $me = call('relay.register', \%about);
my $kept = call('relay.fetch', { host_id => $me->{host_id}, after => 0, max => 1, wait => 0 });
print "kept $_->{data}\n" for @{ $kept->{messages} };
call('relay.relay', { host_id => $me->{host_id}, channel => 'hello', data => 'XMLRPC::Lite' });
print 'answer ', call('ham.spam.add', { data => [40, 2] }), "\n";
$server->handle if $server;
my $after = $me->{position};
while (1) {
    my $read = call('relay.fetch', { host_id => $me->{host_id}, after => $after, wait => 20 });
    print "got $_->{data}\n" for @{ $read->{messages} };
    $after = $read->{next};
}
