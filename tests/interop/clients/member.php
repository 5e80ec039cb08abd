<?php
// PHP with its extension xmlrpc (Debian: php-cli php-xmlrpc): a member that fetches. Usage: php member.php URL
function call(string $method, array $argument) {
    $body = xmlrpc_encode_request($method, [$argument], ['encoding' => 'utf-8', 'escaping' => 'markup']);
    $http = ['method' => 'POST', 'header' => 'Content-Type: text/xml', 'content' => $body, 'timeout' => 40];
    $answer = xmlrpc_decode(file_get_contents($GLOBALS['argv'][1], false, stream_context_create(['http' => $http])), 'utf-8');
    if (is_array($answer) && xmlrpc_is_fault($answer)) {
        throw new Exception($answer['faultString'], $answer['faultCode']);
    }
    return $answer;
}

$me = call('relay.register', ['methods' => []]);
call('relay.relay', ['host_id' => $me['host_id'], 'channel' => 'hello', 'data' => 'PHP']);
echo 'answer ', call('ham.spam.add', ['data' => [40, 2]]), "\n";
$after = $me['position'];
while (true) {
    $read = call('relay.fetch', ['host_id' => $me['host_id'], 'after' => $after, 'wait' => 20]);
    foreach ($read['messages'] as $message) {
        echo 'got ', $message['data'], "\n";
    }
    $after = $read['next'];
}
