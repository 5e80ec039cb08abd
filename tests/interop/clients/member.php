<?php
// PHP with its extension xmlrpc (Debian: php-cli php-xmlrpc): a member that serves a port, or one that fetches.
// Usage: php member.php URL ?fetch?
const AS_UTF8 = ['encoding' => 'utf-8', 'escaping' => 'markup'];

if (PHP_SAPI === 'cli-server') {  // PHP's own server, started below, runs this file anew for each call
    $server = xmlrpc_server_create();
    xmlrpc_server_register_method($server, 'notify', function ($method, $arguments) {
        file_put_contents('php://stdout', "got {$arguments[0]['data']}\n");
        return true;
    });
    xmlrpc_server_register_method($server, 'php.double', fn($method, $arguments) => 2 * $arguments[0]['data']);
    header('Content-Type: text/xml');
    echo xmlrpc_server_call_method($server, file_get_contents('php://input'), null, AS_UTF8);
    exit;
}

function call(string $method, array $argument) {
    $body = xmlrpc_encode_request($method, [$argument], AS_UTF8);
    $http = ['method' => 'POST', 'header' => 'Content-Type: text/xml', 'content' => $body, 'timeout' => 40];
    $answer = xmlrpc_decode(file_get_contents($GLOBALS['argv'][1], false, stream_context_create(['http' => $http])), 'utf-8');
    if (is_array($answer) && xmlrpc_is_fault($answer)) {
        throw new Exception($answer['faultString'], $answer['faultCode']);
    }
    return $answer;
}

$about = ['methods' => []];
$fetches = ($argv[2] ?? '') === 'fetch';
if (!$fetches) {
    $probe = stream_socket_server('tcp://127.0.0.1:0');  // PHP's server does not say which port it took: find a free one
    $port = (int) substr(strrchr(stream_socket_get_name($probe, false), ':'), 1);
    fclose($probe);
    $server = proc_open([PHP_BINARY, '-S', "127.0.0.1:$port", __FILE__], [], $pipes);
    register_shutdown_function(fn() => proc_terminate($server));
    while (!@fsockopen('127.0.0.1', $port) && proc_get_status($server)['running']) {
        usleep(10_000);
    }
    $about = ['port' => $port, 'methods' => ['php.double']];
}
$me = call('relay.register', $about);
$kept = call('relay.fetch', ['host_id' => $me['host_id'], 'after' => 0, 'max' => 1, 'wait' => 0]);
foreach ($kept['messages'] as $message) {
    echo 'kept ', $message['data'], "\n";
}
call('relay.relay', ['host_id' => $me['host_id'], 'channel' => 'hello', 'data' => 'PHP']);
echo 'answer ', call('ham.spam.add', ['data' => [40, 2]]), "\n";
if (!$fetches) {
    exit(proc_close($server));  // waits until it ends
}
$after = $me['position'];
while (true) {
    $read = call('relay.fetch', ['host_id' => $me['host_id'], 'after' => $after, 'wait' => 20]);
    foreach ($read['messages'] as $message) {
        echo 'got ', $message['data'], "\n";
    }
    $after = $read['next'];
}
