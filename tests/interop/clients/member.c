/* C, xmlrpc-c (Debian: libxmlrpc-core-c3-dev): a member that serves a port, or one that fetches.
 *   cc member.c $(xmlrpc-c-config client abyss-server --cflags --libs) -o member && ./member URL ?fetch? */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xmlrpc-c/base.h>
#include <xmlrpc-c/client.h>
#include <xmlrpc-c/server.h>
#include <xmlrpc-c/server_abyss.h>

static xmlrpc_env env;
static const char *relay, *host_id;

static void check(void) {
    if (env.fault_occurred) {
        fprintf(stderr, "%d %s\n", env.fault_code, env.fault_string);
        exit(1);
    }
}

/* Print what a message holds where that is text. */
static void show(xmlrpc_env *env, const char *how, xmlrpc_value *message) {
    xmlrpc_value *data;
    const char *text;

    xmlrpc_struct_read_value(env, message, "data", &data);
    if (env->fault_occurred) return;
    if (xmlrpc_value_type(data) == XMLRPC_TYPE_STRING) {
        xmlrpc_read_string(env, data, &text);
        printf("%s %s\n", how, text);
        free((char *) text);
    } else {
        printf("%s something else than text\n", how);
    }
    xmlrpc_DECREF(data);
}

/* Print the messages after a position; returns the one to go on after. */
static int fetch(int after, int max, int wait, const char *how) {
    xmlrpc_value *read, *messages, *message;
    int next;

    read = xmlrpc_client_call(&env, relay, "relay.fetch", "({s:s,s:i,s:i,s:i})",
                              "host_id", host_id, "after", after, "max", max, "wait", wait);
    check();
    xmlrpc_decompose_value(&env, read, "{s:A,s:i,*}", "messages", &messages, "next", &next);
    check();
    for (int at = 0; at < xmlrpc_array_size(&env, messages); at++) {
        xmlrpc_array_read_item(&env, messages, at, &message);
        show(&env, how, message);
        check();
        xmlrpc_DECREF(message);
    }
    xmlrpc_DECREF(messages);
    xmlrpc_DECREF(read);
    return next;
}

static xmlrpc_value *notify(xmlrpc_env *env, xmlrpc_value *arguments, void *unused) {
    xmlrpc_value *message;

    xmlrpc_array_read_item(env, arguments, 0, &message);
    if (env->fault_occurred) return NULL;
    show(env, "got", message);
    xmlrpc_DECREF(message);
    return env->fault_occurred ? NULL : xmlrpc_bool_new(env, 1);
}

static xmlrpc_value *twice(xmlrpc_env *env, xmlrpc_value *arguments, void *unused) {
    int number;

    xmlrpc_decompose_value(env, arguments, "({s:i,*})", "data", &number);
    return env->fault_occurred ? NULL : xmlrpc_int_new(env, 2 * number);
}

/* Listen on a free port of this machine only; returns the socket. */
static int listening(int *port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int handle = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(handle, (struct sockaddr *) &here, size) || listen(handle, 16) ||
        getsockname(handle, (struct sockaddr *) &here, &size)) {
        perror("listen");
        exit(1);
    }
    *port = ntohs(here.sin_port);
    return handle;
}

static void serve(int handle) {
    xmlrpc_registry *registry = xmlrpc_registry_new(&env);
    xmlrpc_server_abyss_parms parms = {.registryP = registry, .socket_bound = 1, .socket_handle = handle};

    xmlrpc_registry_add_method(&env, registry, NULL, "notify", notify, NULL);
    xmlrpc_registry_add_method(&env, registry, NULL, "c.double", twice, NULL);
    check();
    xmlrpc_server_abyss(&env, &parms, XMLRPC_APSIZE(socket_handle));
    check();
}

int main(int argc, char **argv) {
    int fetches = argc > 2 && strcmp(argv[2], "fetch") == 0, handle = 0, port, answer, after;
    xmlrpc_value *me, *sum;

    relay = argc > 1 ? argv[1] : "http://127.0.0.1:2003";
    setvbuf(stdout, NULL, _IOLBF, 0);
    xmlrpc_env_init(&env);
    xmlrpc_client_init2(&env, XMLRPC_CLIENT_NO_FLAGS, "member", "1", NULL, 0);
    check();
    if (fetches) {
        me = xmlrpc_client_call(&env, relay, "relay.register", "({})");
    } else {
        handle = listening(&port);
        me = xmlrpc_client_call(&env, relay, "relay.register", "({s:i,s:(s)})", "port", port, "methods", "c.double");
    }
    check();
    xmlrpc_decompose_value(&env, me, "{s:s,s:i,*}", "host_id", &host_id, "position", &after);
    check();
    fetch(0, 1, 0, "kept");
    xmlrpc_client_call(&env, relay, "relay.relay", "({s:s,s:s,s:s})",
                       "host_id", host_id, "channel", "hello", "data", "C");
    check();
    sum = xmlrpc_client_call(&env, relay, "ham.spam.add", "({s:(ii)})", "data", 40, 2);
    check();
    xmlrpc_read_int(&env, sum, &answer);
    printf("answer %d\n", answer);
    if (!fetches) serve(handle);
    while (1) after = fetch(after, 100, 20, "got");
}
