# Ruby, xmlrpc (Debian: ruby-xmlrpc, or: gem install xmlrpc): a member that serves a port. Usage: ruby member.rb URL
require "xmlrpc/client"
require "xmlrpc/server"
$stdout.sync = true
# As it is the library reads no nil: it answers with HTTP 500, and the relay would try the same message three times, and leave it out.
XMLRPC::Config.send(:remove_const, :ENABLE_NIL_PARSER)
XMLRPC::Config::ENABLE_NIL_PARSER = true
relay = XMLRPC::Client.new2(ARGV[0])

server = XMLRPC::Server.new(0, "127.0.0.1", 4, File.open(File::NULL, "w"), false, false)
port = server.instance_variable_get(:@server).listeners[0].addr[1]
server.add_handler("notify") { |message| puts "got #{message['data']}"; true }
server.add_handler("ruby.double") { |message| 2 * message["data"] }
Thread.new { server.serve }

me = relay.call("relay.register", { "port" => port, "methods" => ["ruby.double"] })
kept = relay.call("relay.fetch", { "host_id" => me["host_id"], "after" => 0, "max" => 1, "wait" => 0 })
kept["messages"].each { |message| puts "kept #{message['data']}" }
relay.call("relay.relay", { "host_id" => me["host_id"], "channel" => "hello", "data" => "Ruby" })
puts "answer #{relay.call('ham.spam.add', { 'data' => [40, 2] })}"
sleep
