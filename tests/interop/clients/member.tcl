# Tcl, xmlrpc (Debian: tcl tcl-xmlrpc): a member that serves a port, or one that fetches. Usage: tclsh member.tcl URL ?fetch?
package require xmlrpc
fconfigure stdout -encoding utf-8 -buffering line

# The library takes characters for bytes, so it gets bytes; it neither writes nor reads &lt; and the like.
encoding system iso8859-1
proc text {value} { list string [string map {& &amp; < &lt; > &gt;} [encoding convertto utf-8 $value]] }
proc plain {value} { string map {&lt; < &gt; > &quot; \" &apos; ' &#13; \r &amp; &} [encoding convertfrom utf-8 $value] }
# It reads no nil, no i8, and no double with an exponent; to Tcl they are texts.
rename xmlrpc::getBody xmlrpc::getBodyAsSent
proc xmlrpc::getBody {channel header body} {
    string map {<nil/> <string></string> <i8> <int> </i8> </int> <double> <string> </double> </string>} \
        [getBodyAsSent $channel $header $body]
}
# It reads no name of a member that is empty or has a space.
set xmlrpc::W {(?:[^<]*)}
# It closes after each answer, as in HTTP/1.0, but calls that 1.1; and of a Fault it does not send the last byte.
rename buildResponse buildResponse1.1
rename buildFault buildFault1.1
proc buildResponse {value} { string replace [buildResponse1.1 $value] 0 7 HTTP/1.0 }
proc buildFault {code message} { return "[string replace [buildFault1.1 $code $message] 0 7 HTTP/1.0]\n" }
# It would evaluate any command of Tcl that a caller names, exec too: only what is in this list is called.
proc xmlrpc::eval {name arguments} {
    if {$name ni {::notify ::tcl.double}} { error "no method $name" }
    $name {*}$arguments
}

proc field {struct name} { lindex [xmlrpc::assoc $name $struct] 1 }
proc call {method argument} {
    array set struct $argument
    set answer [lindex [xmlrpc::call [string trimright [lindex $::argv 0] /] RPC2 $method {{struct struct}}] 1]
    if {[string match {{faultCode *} {faultString *}} $answer]} { error [plain [field $answer faultString]] }
    return $answer
}
proc notify {message} { puts "got [plain [field $message data]]"; return {boolean 1} }
proc tcl.double {argument} { list int [expr {2 * [field $argument data]}] }
# xmlrpc::serve listens on all addresses, and does not answer what it cannot read.
proc accept {channel address port} {
    fconfigure $channel -blocking off -translation lf
    fileevent $channel readable [list answer $channel]
}
proc answer {channel} {
    if {[catch {xmlrpc::doRequest $channel}]} { catch {puts -nonewline $channel [buildFault 1 "not read"]} }
    catch {close $channel}
}

set fetches [expr {[lindex $argv 1] eq "fetch"}]
set about {}
if {!$fetches} {
    set port [lindex [fconfigure [socket -server accept -myaddr 127.0.0.1 0] -sockname] 2]
    set about [list port [list int $port] methods {array {{string tcl.double}}}]
}
set me [call relay.register $about]
set host_id [text [field $me host_id]]
set kept [call relay.fetch [list host_id $host_id after {int 0} max {int 1} wait {int 0}]]
foreach message [field $kept messages] { puts "kept [plain [field $message data]]" }
call relay.relay [list host_id $host_id channel [text hello] data [text Tcl]]
puts "answer [call ham.spam.add {data {array {{int 40} {int 2}}}}]"

set after [field $me position]
while {$fetches} {
    # It reads an answer with twice the messages in four times the time: a few at once.
    set read [call relay.fetch [list host_id $host_id after [list int $after] max {int 20} wait {int 20}]]
    foreach message [field $read messages] { puts "got [plain [field $message data]]" }
    set after [field $read next]
}
vwait forever
