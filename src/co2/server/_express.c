/* The express: a small frame that comes while its host has nothing to do is passed on before Python has seen it.

   `express.py` says what it is for, and who says what is expected. Here is one function, `wait`: it sleeps until
   something happens, and if that is one of the frames that are expected, byte for byte but for checksum and messages,
   it writes what was said that this becomes. Then it hands everything to Python, which does its work as if nothing had
   been written yet, and leaves out what has been.

   Bytes that come from outside are compared, measured and copied here, nothing else: no value in them is used but
   lengths that fit exactly what has come, and the checksum. Whatever is in doubt is no match, and Python's. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MAX_EXPECTED 16
#define MAX_BECOMES 64
#define MAX_SIZE 8192
#define MAX_HEAD 2048
#define MAX_MESSAGES 2048
#define BATCH_HEAD 5

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE */
#endif

enum framing { COUNTED, FROM_SERVER, FROM_CLIENT };

/* A frame on one socket: framing, head, maybe a checksum, the batch, tail. */
typedef struct {
    int descriptor, framing, checked;
    const unsigned char *head, *tail;
    Py_ssize_t head_size, tail_size;
} Way;

typedef struct {
    Way in;
    Way outs[MAX_BECOMES];
    int count;
} Expected;

typedef struct {
    const unsigned char *data;
    Py_ssize_t size;
    uint32_t crc;
} Batch;

static uint32_t crc_table[256];

static void make_crc_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
        crc_table[byte] = value;
    }
}

static uint32_t crc32_of(const unsigned char *data, Py_ssize_t size)
{
    uint32_t value = 0xFFFFFFFFu;
    for (Py_ssize_t at = 0; at < size; at++)
        value = crc_table[(value ^ data[at]) & 0xFF] ^ (value >> 8);
    return ~value;
}

static uint32_t big_endian(const unsigned char *at, int bytes)
{
    uint32_t value = 0;
    while (bytes--)
        value = value << 8 | *at++;
    return value;
}

/* ---- what has come ---- */

/* Find the first frame in what has come, without its framing; tell whether all of it is there. */
static int find_frame(int framing, const unsigned char *data, Py_ssize_t size, Py_ssize_t *begin, Py_ssize_t *end)
{
    if (framing == COUNTED) {
        if (size < 4 || big_endian(data, 4) > MAX_SIZE)
            return 0;
        *begin = 4;
        *end = 4 + (Py_ssize_t)big_endian(data, 4);
        return *end <= size;
    }
    Py_ssize_t mask = framing == FROM_CLIENT ? 4 : 0, at = 2;
    if (size < 4 || data[0] != 0x82 || (data[1] & 0x80) != (mask ? 0x80 : 0) || (data[1] & 0x7F) == 127)
        return 0;
    Py_ssize_t told = data[1] & 0x7F;
    if (told == 126) {
        told = (Py_ssize_t)big_endian(data + 2, 2);
        at = 4;
    }
    *begin = at + mask;
    *end = *begin + told;
    return *end <= size && (!mask || !memcmp(data + at, "\0\0\0\0", 4));
}

/* Tell whether `data` begins with the frame that is expected; find its batch. */
static int is_expected(const Way *way, const unsigned char *data, Py_ssize_t size, Batch *batch)
{
    Py_ssize_t at, end;
    if (!find_frame(way->framing, data, size, &at, &end) || end - at < way->head_size + way->tail_size ||
        memcmp(data + at, way->head, way->head_size))
        return 0;
    at += way->head_size;
    end -= way->tail_size;
    if (memcmp(data + end, way->tail, way->tail_size))
        return 0;
    uint32_t told = 0;
    if (way->checked) {
        if (end - at < 5 || data[at] != 0xCE)
            return 0;
        told = big_endian(data + at + 1, 4);
        at += 5;
    }
    /* As MessagePack's shortest form, which is the one that Python writes. */
    if (end - at >= 2 && data[at] == 0xC4)
        batch->size = data[at + 1], at += 2;
    else if (end - at >= 3 && data[at] == 0xC5 && big_endian(data + at + 1, 2) > 0xFF)
        batch->size = (Py_ssize_t)big_endian(data + at + 1, 2), at += 3;
    else
        return 0;
    batch->data = data + at;
    if (batch->size != end - at || batch->size < BATCH_HEAD || batch->data[0] != 0xDD)
        return 0;
    uint32_t count = big_endian(batch->data + 1, 4);
    if (!count || count > MAX_MESSAGES)
        return 0;
    batch->crc = crc32_of(batch->data, batch->size);
    return batch->crc > 0xFFFF && (!way->checked || batch->crc == told);
}

/* ---- what it becomes ---- */

static Py_ssize_t write_frame(const Way *way, const Batch *batch, unsigned char *out)
{
    Py_ssize_t bin_head = batch->size > 0xFF ? 3 : 2;
    Py_ssize_t size = way->head_size + (way->checked ? 5 : 0) + bin_head + batch->size + way->tail_size;
    unsigned char *at = out;
    if (way->framing == COUNTED) {
        *at++ = 0, *at++ = 0, *at++ = (unsigned char)(size >> 8), *at++ = (unsigned char)size;
    } else {
        int bit = way->framing == FROM_CLIENT ? 0x80 : 0;
        *at++ = 0x82;
        if (size < 126) {
            *at++ = (unsigned char)(bit | size);
        } else {
            *at++ = (unsigned char)(bit | 126);
            *at++ = (unsigned char)(size >> 8), *at++ = (unsigned char)size;
        }
        if (bit)
            memset(at, 0, 4), at += 4;
    }
    memcpy(at, way->head, way->head_size), at += way->head_size;
    if (way->checked) {
        *at++ = 0xCE;
        for (int shift = 24; shift >= 0; shift -= 8)
            *at++ = (unsigned char)(batch->crc >> shift);
    }
    *at++ = batch->size > 0xFF ? 0xC5 : 0xC4;
    if (batch->size > 0xFF)
        *at++ = (unsigned char)(batch->size >> 8);
    *at++ = (unsigned char)batch->size;
    memcpy(at, batch->data, batch->size), at += batch->size;
    memcpy(at, way->tail, way->tail_size), at += way->tail_size;
    return at - out;
}

static int is_same_frame(const Way *one, const Way *other)
{
    return one->framing == other->framing && one->checked == other->checked && one->head == other->head &&
           one->tail == other->tail;
}

/* ---- waiting ---- */

static int sleep_until_ready(struct pollfd *polled, int count, double seconds)
{
#ifdef __linux__
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    return ppoll(polled, (nfds_t)count, seconds < 0 ? NULL : &time, NULL);
#else
    return poll(polled, (nfds_t)count, seconds < 0 ? -1 : (int)(seconds * 1e3 + 0.999));
#endif
}

typedef struct {
    unsigned char data[MAX_SIZE], out[MAX_SIZE + MAX_HEAD + 64];
    Py_ssize_t size;
    Py_ssize_t written[MAX_BECOMES];
    int which;  /* of those that are expected; the first one on the socket where it is none of them */
    int fired;
} Taken;

/* Read what has come on a socket; pass it on where it is expected. Give whether anything was taken. */
static int take(const Expected *expected, int count, int descriptor, Taken *taken)
{
    taken->size = recv(descriptor, taken->data, MAX_SIZE, MSG_DONTWAIT);
    if (taken->size <= 0)
        return 0; /* its end, or an error: Python's transport finds the same */
    taken->which = -1;
    for (int which = 0; which < count; which++) {
        const Expected *one = &expected[which];
        Batch batch;
        if (one->in.descriptor != descriptor)
            continue;
        if (taken->which < 0)
            taken->which = which;
        if (!is_expected(&one->in, taken->data, taken->size, &batch))
            continue;
        Py_ssize_t size = 0;
        for (int out = 0; out < one->count; out++) {
            const Way *way = &one->outs[out];
            if (!out || !is_same_frame(way, way - 1))
                size = write_frame(way, &batch, taken->out);
            Py_ssize_t sent = send(way->descriptor, taken->out, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
            taken->written[out] = sent > 0 ? sent : 0;
        }
        taken->which = which;
        taken->fired = 1;
        return 1;
    }
    return 1;
}

/* ---- Python's side ---- */

static int is_tuple(PyObject *given)
{
    if (!PyTuple_Check(given))
        PyErr_SetString(PyExc_TypeError, "a tuple is wanted here");
    return PyTuple_Check(given);
}

static int parse_way(PyObject *given, Way *way)
{
    if (!is_tuple(given) || !PyArg_ParseTuple(given, "iiy#py#", &way->descriptor, &way->framing, &way->head, &way->head_size,
                          &way->checked, &way->tail, &way->tail_size))
        return -1;
    if (way->head_size + way->tail_size > MAX_HEAD || way->framing < COUNTED || way->framing > FROM_CLIENT) {
        PyErr_SetString(PyExc_ValueError, "no such framing, or a head that is too long");
        return -1;
    }
    return 0;
}

static int parse_expected(PyObject *given, Expected *expected)
{
    PyObject *in, *outs;
    if (!is_tuple(given) || !PyArg_ParseTuple(given, "OO!", &in, &PyTuple_Type, &outs) || parse_way(in, &expected->in))
        return -1;
    expected->count = (int)PyTuple_GET_SIZE(outs);
    if (PyTuple_GET_SIZE(outs) > MAX_BECOMES) {
        PyErr_SetString(PyExc_ValueError, "more outs than there is room for");
        return -1;
    }
    for (int out = 0; out < expected->count; out++)
        if (parse_way(PyTuple_GET_ITEM(outs, out), &expected->outs[out]))
            return -1;
    return 0;
}

static PyObject *told(const Expected *expected, Taken *taken)
{
    PyObject *written = NULL;
    if (taken->fired) {
        const Expected *one = &expected[taken->which];
        if (!(written = PyTuple_New(one->count)))
            return NULL;
        for (int out = 0; out < one->count; out++) {
            Batch batch;
            is_expected(&one->in, taken->data, taken->size, &batch);
            write_frame(&one->outs[out], &batch, taken->out);
            PyObject *bytes = PyBytes_FromStringAndSize((char *)taken->out, taken->written[out]);
            if (!bytes) {
                Py_DECREF(written);
                return NULL;
            }
            PyTuple_SET_ITEM(written, out, bytes);
        }
    } else {
        written = Py_NewRef(Py_None);
    }
    return Py_BuildValue("iy#N", taken->which, (char *)taken->data, taken->size, written);
}

PyDoc_STRVAR(wait_doc, "wait(others, timeout, linger, expected)\n--\n\nSee ``co2.server.express``.");

static PyObject *express_wait(PyObject *module, PyObject *args)
{
    Expected expected[MAX_EXPECTED];
    Taken taken;
    int others;
    double timeout, linger;
    PyObject *all;
    if (!PyArg_ParseTuple(args, "iddO!", &others, &timeout, &linger, &PyTuple_Type, &all))
        return NULL;
    int count = (int)PyTuple_GET_SIZE(all), polled_count = 1;
    if (PyTuple_GET_SIZE(all) > MAX_EXPECTED) {
        PyErr_SetString(PyExc_ValueError, "more is expected than there is room for");
        return NULL;
    }
    struct pollfd polled[MAX_EXPECTED + 1] = {{others, POLLIN, 0}};
    for (int which = 0; which < count; which++) {
        if (parse_expected(PyTuple_GET_ITEM(all, which), &expected[which]))
            return NULL;
        int known = 0;
        for (int at = 1; at < polled_count; at++)
            known |= polled[at].fd == expected[which].in.descriptor;
        if (!known)
            polled[polled_count++] = (struct pollfd){expected[which].in.descriptor, POLLIN, 0};
    }
    int anything = 0;
    taken.fired = 0;
    Py_BEGIN_ALLOW_THREADS
    if (sleep_until_ready(polled, polled_count, timeout) > 0)
        for (int at = 1; at < polled_count && !anything; at++)
            if (polled[at].revents & POLLIN)
                anything = take(expected, count, polled[at].fd, &taken);
    /* Who comes next on the message's way has the processor first. */
    if (taken.fired && linger > 0)
        sleep_until_ready(polled, polled_count, linger);
    Py_END_ALLOW_THREADS
    if (!anything)
        Py_RETURN_NONE;
    return told(expected, &taken);
}

static PyMethodDef functions[] = {
    {"wait", express_wait, METH_VARARGS, wait_doc},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "co2.server._express",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__express(void)
{
    make_crc_table();
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddIntMacro(made, SOURCE) || PyModule_AddIntMacro(made, MAX_BECOMES) ||
                 PyModule_AddIntMacro(made, MAX_EXPECTED) || PyModule_AddIntMacro(made, MAX_HEAD)))
        Py_CLEAR(made);
    return made;
}
