/* C, xmlrpc-c (Debian: libxmlrpc-core-c3-dev): a member that fetches.
 *   cc member.c $(xmlrpc-c-config client --cflags --libs) -o member && ./member http://127.0.0.1:2003 */
#include <stdio.h>
#include <stdlib.h>
#include <xmlrpc-c/base.h>
#include <xmlrpc-c/client.h>

static xmlrpc_env env;

static void check(void) {
    if (env.fault_occurred) {
        fprintf(stderr, "%d %s\n", env.fault_code, env.fault_string);
        exit(1);
    }
}

int main(int argc, char **argv) {
    const char *relay = argc > 1 ? argv[1] : "http://127.0.0.1:2003", *host_id, *data;
    xmlrpc_value *me, *read, *messages, *message, *sum;
    xmlrpc_int64 after;
    int answer;

    setvbuf(stdout, NULL, _IOLBF, 0);
    xmlrpc_env_init(&env);
    xmlrpc_client_init2(&env, XMLRPC_CLIENT_NO_FLAGS, "member", "1", NULL, 0);
    check();
    me = xmlrpc_client_call(&env, relay, "relay.register", "({s:A})", "methods", xmlrpc_array_new(&env));
    check();
    xmlrpc_decompose_value(&env, me, "{s:s,*}", "host_id", &host_id);
    xmlrpc_client_call(&env, relay, "relay.relay", "({s:s,s:s,s:s})",
                       "host_id", host_id, "channel", "hello", "data", "C");
    check();
    sum = xmlrpc_client_call(&env, relay, "ham.spam.add", "({s:(ii)})", "data", 40, 2);
    check();
    xmlrpc_read_int(&env, sum, &answer);
    printf("answer %d\n", answer);
    xmlrpc_struct_find_value(&env, me, "position", &sum);
    xmlrpc_read_int(&env, sum, &answer);
    for (after = answer;;) {
        read = xmlrpc_client_call(&env, relay, "relay.fetch", "({s:s,s:i,s:i})",
                                  "host_id", host_id, "after", (xmlrpc_int32) after, "wait", 20);
        check();
        xmlrpc_decompose_value(&env, read, "{s:A,s:i,*}", "messages", &messages, "next", &answer);
        check();
        after = answer;
        for (int at = 0; at < xmlrpc_array_size(&env, messages); at++) {
            xmlrpc_array_read_item(&env, messages, at, &message);
            xmlrpc_decompose_value(&env, message, "{s:s,*}", "data", &data);
            check();
            printf("got %s\n", data);
            xmlrpc_DECREF(message);
        }
        xmlrpc_DECREF(messages);
        xmlrpc_DECREF(read);
    }
}
