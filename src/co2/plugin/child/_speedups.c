/* The two loops that every message passes, compiled: the quick path into a queue, and the calls of `receive`.

   `speedups.py` has the same in Python, documents it, and chooses; the tests run both. Nothing here parses bytes from
   outside: msgspec encodes and decodes messages, and batches are split elsewhere. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <sys/socket.h>

static PyObject *text_asleep, *text_attend, *text_channel, *text_client_address, *text_data, *text_host_id;

/* ---- Level and Sleeper: attributes that C reads without a look-up ---- */

typedef struct {
    PyObject_HEAD
    Py_ssize_t alert;
    unsigned long long cause, run;
    unsigned long thread;
} Level;

typedef struct {
    PyObject_HEAD
    char asleep;
} Sleeper;

static PyMemberDef level_members[] = {
    {"alert", T_PYSSIZET, offsetof(Level, alert), 0,
     PyDoc_STR("Entries that may wait before their sender has to write them.")},
    {"cause", T_ULONGLONG, offsetof(Level, cause), 0,
     PyDoc_STR("Position of the message that the plugin is in, 0 for none.")},
    {"run", T_ULONGLONG, offsetof(Level, run), 0, PyDoc_STR("Run that the cause is a number of, 0 for the log.")},
    {"thread", T_ULONG, offsetof(Level, thread), 0, PyDoc_STR("The plugin's thread.")},
    {NULL},
};

static PyMemberDef sleeper_members[] = {
    {"asleep", T_BOOL, offsetof(Sleeper, asleep), 0, PyDoc_STR("Nobody writes now, and a sender must call attend().")},
    {NULL},
};

static PyTypeObject LevelType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "co2.plugin.child._speedups.Level",
    .tp_doc = PyDoc_STR("A queue, as send sees it."),
    .tp_basicsize = sizeof(Level),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_members = level_members,
};

static PyTypeObject SleeperType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "co2.plugin.child._speedups.Sleeper",
    .tp_doc = PyDoc_STR("A writer, as send sees it."),
    .tp_basicsize = sizeof(Sleeper),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_members = sleeper_members,
};

/* ---- Send: a callable ---- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *queue, *entries, *writer, *encode, *place, *other, *weak;
    char *asleep; /* of the writer, if that is a Sleeper; else NULL */
    Py_ssize_t small, short_channel;
} Send;

/* Return 1 if a message has one of the two common forms, 0 if not, -1 for an error. *channel is borrowed; NULL: none. */
static int
common_form(PyObject *message, PyObject **channel)
{
    *channel = NULL;
    if (!PyDict_CheckExact(message))
        return 0;
    Py_ssize_t keys = PyDict_GET_SIZE(message);
    if (keys != 1 && keys != 2)
        return 0;
    if (!PyDict_GetItemWithError(message, text_data))
        return PyErr_Occurred() ? -1 : 0;
    if (keys == 1)
        return 1;
    *channel = PyDict_GetItemWithError(message, text_channel);
    if (!*channel)
        return PyErr_Occurred() ? -1 : 0;
    return PyUnicode_CheckExact(*channel);
}

#define MAX_CAUSE 25 /* bytes of the key `cause` with its value, a list of two numbers, at most */

/* Write a number in MessagePack's shortest form; return how many bytes it takes. */
static Py_ssize_t
write_number(unsigned long long value, unsigned char *out)
{
    if (value < 0x80) {
        out[0] = (unsigned char)value;
        return 1;
    }
    int form = value <= 0xFF ? 0 : value <= 0xFFFF ? 1 : value <= 0xFFFFFFFFu ? 2 : 3, bytes = 1 << form;
    out[0] = (unsigned char)(0xCC + form);
    for (int at = bytes; at; at--, value >>= 8)
        out[at] = (unsigned char)value;
    return 1 + bytes;
}

/* Write the key `cause` with the message that the plugin is in; return its bytes, 0 if this thread is in none. */
static Py_ssize_t
write_cause(const Level *level, unsigned char *out)
{
    if (!level->cause || level->thread != PyThread_get_thread_ident())
        return 0;
    memcpy(out, "\xa5" "cause", 6);
    Py_ssize_t size = 6;
    if (level->run) {
        out[size++] = 0x92;
        size += write_number(level->run, out + size);
    }
    return size + write_number(level->cause, out + size);
}

/* Return a new reference to an encoded message with its cause, if the plugin is in a message; NULL for an error. */
static PyObject *
with_cause(const Level *level, PyObject *packed)
{
    unsigned char cause[MAX_CAUSE];
    Py_ssize_t size = PyBytes_GET_SIZE(packed), more = write_cause(level, cause);
    const unsigned char *data = (unsigned char *)PyBytes_AS_STRING(packed);
    if (!more || !size || (data[0] & 0xF0) != 0x80 || data[0] == 0x8F)
        return Py_NewRef(packed);
    PyObject *longer = PyBytes_FromStringAndSize(NULL, size + more);
    if (longer) {
        unsigned char *out = (unsigned char *)PyBytes_AS_STRING(longer);
        memcpy(out, data, (size_t)size);
        out[0]++; /* one key more */
        memcpy(out + size, cause, (size_t)more);
    }
    return longer;
}

static int
is_asleep(Send *self)
{
    if (self->asleep)
        return *self->asleep;
    PyObject *asleep = PyObject_GetAttr(self->writer, text_asleep);
    if (!asleep)
        return -1;
    int found = PyObject_IsTrue(asleep);
    Py_DECREF(asleep);
    return found;
}

/* Append a small message to the queue; return 1 if it was appended, 0 if it may not be, -1 for an error. */
static int
append(Send *self, PyObject *packed, PyObject *channel)
{
    if (PyBytes_GET_SIZE(packed) > self->small || PyList_GET_SIZE(self->entries) >= ((Level *)self->queue)->alert)
        return 0;
    if (!channel)
        return PyList_Append(self->entries, packed) < 0 ? -1 : 1;
    if (PyUnicode_GET_LENGTH(channel) > self->short_channel)
        return 0;
    PyObject *entry = PyTuple_Pack(3, packed, channel, Py_False);
    if (!entry)
        return -1;
    int failed = PyList_Append(self->entries, entry);
    Py_DECREF(entry);
    return failed < 0 ? -1 : 1;
}

static PyObject *
send_packed(Send *self, PyObject *packed, PyObject *channel)
{
    int done = 0;
    if (PyBytes_CheckExact(packed)) {
        PyObject *whole = with_cause((Level *)self->queue, packed);
        done = whole ? append(self, whole, channel) : -1;
        Py_XDECREF(whole);
    }
    if (done < 0)
        return NULL;
    if (!done)
        return PyObject_CallFunctionObjArgs(self->place, packed, channel ? channel : Py_None, NULL);
    int asleep = is_asleep(self);
    if (asleep < 0)
        return NULL;
    if (asleep)
        return PyObject_CallMethodNoArgs(self->writer, text_attend);
    Py_RETURN_NONE;
}

static PyObject *
send_call(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Send *self = (Send *)callable;
    PyObject *channel;
    if (PyVectorcall_NARGS(nargsf) != 1 || (kwnames && PyTuple_GET_SIZE(kwnames)))
        return PyObject_Vectorcall(self->other, args, nargsf, kwnames);
    int common = common_form(args[0], &channel);
    if (common < 0)
        return NULL;
    if (!common)
        return PyObject_CallOneArg(self->other, args[0]);
    Py_XINCREF(channel); /* encoding may run a plugin's code, which may change the message */
    PyObject *packed = PyObject_CallOneArg(self->encode, args[0]), *result;
    if (packed) {
        result = send_packed(self, packed, channel);
        Py_DECREF(packed);
    }
    else if (PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear(); /* the other function raises the error that the author of the plugin sees */
        result = PyObject_CallOneArg(self->other, args[0]);
    }
    else
        result = NULL;
    Py_XDECREF(channel);
    return result;
}

static PyObject *
send_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"queue", "entries", "writer", "encode", "place", "other", "small", "short_channel", NULL};
    PyObject *queue, *entries, *writer, *encode, *place, *other;
    Py_ssize_t small, short_channel;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!OOOOnn", names, &LevelType, &queue, &PyList_Type, &entries,
                                     &writer, &encode, &place, &other, &small, &short_channel))
        return NULL;
    Send *self = (Send *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->vectorcall = send_call;
    self->queue = Py_NewRef(queue);
    self->entries = Py_NewRef(entries);
    self->writer = Py_NewRef(writer);
    self->asleep = PyObject_TypeCheck(writer, &SleeperType) ? &((Sleeper *)writer)->asleep : NULL;
    self->encode = Py_NewRef(encode);
    self->place = Py_NewRef(place);
    self->other = Py_NewRef(other);
    self->small = small;
    self->short_channel = short_channel;
    return (PyObject *)self;
}

static int
send_traverse(Send *self, visitproc visit, void *arg)
{
    Py_VISIT(self->queue);
    Py_VISIT(self->entries);
    Py_VISIT(self->writer);
    Py_VISIT(self->encode);
    Py_VISIT(self->place);
    Py_VISIT(self->other);
    return 0;
}

static void
send_dealloc(Send *self)
{
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs((PyObject *)self);
    Py_XDECREF(self->queue);
    Py_XDECREF(self->entries);
    Py_XDECREF(self->writer);
    Py_XDECREF(self->encode);
    Py_XDECREF(self->place);
    Py_XDECREF(self->other);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject SendType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "co2.plugin.child._speedups.Send",
    .tp_doc = PyDoc_STR("Sends a message of a plugin."),
    .tp_basicsize = sizeof(Send),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = send_new,
    .tp_dealloc = (destructor)send_dealloc,
    .tp_traverse = (traverseproc)send_traverse,
    .tp_weaklistoffset = offsetof(Send, weak),
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Send, vectorcall),
};

/* ---- give ---- */

/* The arguments of give() that are the same for all messages. */
typedef struct {
    PyObject *wants, *receive, *host_id, *client_address;
    Level *level;             /* NULL for none */
    unsigned long long cause; /* of the message at index 0, 0 for none */
} Giving;

/* Set a key of a message. One that could not be decoded is no dictionary, and raises its own error. */
static int
set_key(PyObject *message, PyObject *key, PyObject *value)
{
    return PyDict_CheckExact(message) ? PyDict_SetItem(message, key, value) : PyObject_SetItem(message, key, value);
}

/* Pass one message to the plugin; return a new reference to the result of `receive`. */
static PyObject *
give_one(Giving *giving, PyObject *message)
{
    if (set_key(message, text_host_id, giving->host_id) < 0 ||
        set_key(message, text_client_address, giving->client_address) < 0)
        return NULL;
    return PyObject_CallOneArg(giving->receive, message);
}

/* Return 1 if the plugin does not want a message, 0 if it does, -1 for an error. */
static int
is_passed_over(Giving *giving, PyObject *message)
{
    if (giving->wants == Py_None || !PyDict_CheckExact(message))
        return 0;
    PyObject *wanted = PyObject_CallOneArg(giving->wants, message);
    if (!wanted)
        return -1;
    int found = PyObject_IsTrue(wanted);
    Py_DECREF(wanted);
    return found < 0 ? -1 : !found;
}

static PyObject *
give_all(Giving *giving, PyObject *messages, Py_ssize_t at, Py_ssize_t end, PyObject *jobs,
         volatile unsigned long long *word, unsigned long long first)
{
    PyObject *result = NULL;
    for (; at < end; at++) {
        Py_ssize_t waiting = PyObject_Size(jobs);
        if (waiting < 0)
            return NULL;
        if (waiting)
            break;
        if (at >= PyList_GET_SIZE(messages)) {
            PyErr_SetString(PyExc_IndexError, "the index of a message is out of range");
            return NULL;
        }
        PyObject *message = PyList_GET_ITEM(messages, at); /* removed: its memory is freed while it is in the cache */
        PyList_SET_ITEM(messages, at, Py_NewRef(Py_None));
        *word = first + 2 * (unsigned long long)at; /* progress: all messages before this one are done */
        int passed_over = message == Py_None ? 1 : is_passed_over(giving, message);
        if (!passed_over) {
            if (giving->cause)
                giving->level->cause = giving->cause + (unsigned long long)at;
            result = give_one(giving, message);
        }
        Py_DECREF(message);
        if (passed_over < 0 || (!passed_over && !result))
            return NULL;
        if (result == Py_None)
            Py_CLEAR(result);
        if (result)
            return Py_BuildValue("(nN)", at + 1, result);
    }
    return Py_BuildValue("(nO)", at, Py_None);
}

static PyObject *
give(PyObject *Py_UNUSED(module), PyObject *args)
{
    Giving giving = {0};
    PyObject *messages, *words, *jobs, *level = Py_None;
    Py_ssize_t at, end, index;
    unsigned long long first;
    if (!PyArg_ParseTuple(args, "O!nnOnKOOOOO|OK", &PyList_Type, &messages, &at, &end, &words, &index, &first, &jobs,
                          &giving.wants, &giving.receive, &giving.host_id, &giving.client_address, &level,
                          &giving.cause))
        return NULL;
    if (PyObject_TypeCheck(level, &LevelType))
        giving.level = (Level *)level;
    else
        giving.cause = 0;
    Py_buffer buffer;
    if (PyObject_GetBuffer(words, &buffer, PyBUF_CONTIG) < 0)
        return NULL;
    PyObject *given = NULL;
    if (at < 0 || buffer.itemsize != sizeof(unsigned long long) || index < 0 ||
        index >= buffer.len / buffer.itemsize)
        PyErr_SetString(PyExc_ValueError, "an index is out of range, or the words have another size");
    else
        given = give_all(&giving, messages, at, end, jobs, (unsigned long long *)buffer.buf + index, first);
    if (giving.level && (!given || PyTuple_GET_ITEM(given, 1) == Py_None))
        giving.level->cause = 0; /* else it is still in that message: its result may have to be awaited */
    PyBuffer_Release(&buffer);
    return given;
}

/* ---- listen ---- */

static PyObject *
listen_(PyObject *Py_UNUSED(module), PyObject *args)
{
    int data, wakeup;
    Py_buffer buffer;
    if (!PyArg_ParseTuple(args, "iiw*", &data, &wakeup, &buffer))
        return NULL;
    struct pollfd both[2] = {{data, POLLIN, 0}, {wakeup, POLLIN, 0}};
    Py_ssize_t size = -1;
    Py_BEGIN_ALLOW_THREADS
    if (poll(both, 2, -1) > 0 && both[0].revents)
        size = recv(data, buffer.buf, (size_t)buffer.len, 0);
    else
        errno = EINTR;
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&buffer);
    if (size < 0 && errno != EINTR && errno != EAGAIN)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (size < 0 && PyErr_CheckSignals())
        return NULL;
    return PyLong_FromSsize_t(size);
}

/* ---- the module ---- */

static PyMethodDef methods[] = {
    {"listen", listen_, METH_VARARGS, PyDoc_STR("Wait for bytes, or for a wakeup, and read them.")},
    {"give", give, METH_VARARGS, PyDoc_STR("Pass messages to a plugin.")},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "co2.plugin.child._speedups",
    .m_doc = PyDoc_STR("The two loops that every message passes, compiled; see speedups.py."),
    .m_size = -1,
    .m_methods = methods,
};

static int
make_texts(void)
{
    return (text_asleep = PyUnicode_InternFromString("asleep")) &&
           (text_attend = PyUnicode_InternFromString("attend")) &&
           (text_channel = PyUnicode_InternFromString("channel")) &&
           (text_client_address = PyUnicode_InternFromString("client_address")) &&
           (text_data = PyUnicode_InternFromString("data")) && (text_host_id = PyUnicode_InternFromString("host_id"));
}

PyMODINIT_FUNC
PyInit__speedups(void)
{
    if (!make_texts())
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (!module)
        return NULL;
    if (PyModule_AddType(module, &LevelType) < 0 || PyModule_AddType(module, &SleeperType) < 0 ||
        PyModule_AddType(module, &SendType) < 0 || PyModule_AddIntMacro(module, SOURCE) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
