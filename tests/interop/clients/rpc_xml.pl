# Perl, RPC::XML (Debian: librpc-xml-perl): a member that serves a port. Usage: perl rpc_xml.pl http://127.0.0.1:2003
use strict; use warnings;
use RPC::XML::Client; use RPC::XML::Server;
$| = 1;
binmode STDOUT, ':encoding(UTF-8)';
my $relay = RPC::XML::Client->new($ARGV[0]);
sub call { my $found = $relay->simple_request(@_); die $RPC::XML::ERROR unless defined $found; return $found }

my $server = RPC::XML::Server->new(host => '127.0.0.1', port => 0);
$server->add_procedure({ name => 'notify', signature => ['boolean struct'],
                    code => sub { print "got $_[0]{data}\n"; RPC::XML::boolean->new(1) } });
$server->add_procedure({ name => 'perl.double', signature => ['int struct'], code => sub { 2 * $_[0]{data} } });

my $me = call('relay.register', { port => $server->port, methods => ['perl.double'] });
my $kept = call('relay.fetch', { host_id => $me->{host_id}, after => 0, max => 1, wait => 0 });
print "kept $_->{data}\n" for @{ $kept->{messages} };
call('relay.relay', { host_id => $me->{host_id}, channel => 'hello', data => 'RPC::XML' });
print 'answer ', call('ham.spam.add', { data => [40, 2] }), "\n";
$server->server_loop;
