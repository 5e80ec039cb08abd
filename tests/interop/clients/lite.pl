# Perl, XMLRPC::Lite (Debian: libxmlrpc-lite-perl): a member that fetches. Usage: perl lite.pl http://127.0.0.1:2003
use strict; use warnings;
use XMLRPC::Lite;
$| = 1;
my $relay = XMLRPC::Lite->proxy($ARGV[0], timeout => 40);
sub call {
    my $answer = $relay->call(@_);
    die $answer->faultstring if $answer->fault;
    return $answer->result;
}

my $me = call('relay.register', {});
call('relay.relay', { host_id => $me->{host_id}, channel => 'hello', data => 'XMLRPC::Lite' });
print 'answer ', call('ham.spam.add', { data => [40, 2] }), "\n";
my $after = $me->{position};
while (1) {
    my $read = call('relay.fetch', { host_id => $me->{host_id}, after => $after, wait => 20 });
    print "got $_->{data}\n" for @{ $read->{messages} };
    $after = $read->{next};
}
