/* The express: a small frame that arrives while its host is idle is passed on before Python has seen it.

   `loop.py` says why; `relay_forecast.py` and `satellite_forecast.py` say which frames are expected. The main function is
   `wait`. It sleeps until something happens. If an expected frame arrives, equal in all bytes but numbers, checksum and
   messages, `wait` writes the results that the forecast has for it. It does the same with the frames that follow for a
   moment, on any of the connections: together they are a run. Then Python gets all received bytes, in order of arrival.
   It does its work as if nothing had been written, and leaves out the bytes that have been.

   Numbers in frames grow with each frame, by its number of messages. Their next values are kept in counters. A number
   must be equal to its counter; one that is free may also be larger, and then the counter follows it.

   A frame may be the answer to another one. It is passed on only if that one was passed on before it in the same run, is
   the oldest one that its receiver has not answered yet, and has as many messages.

   A frame may end with a time. That of a frame that has arrived is copied into its results; where there is none, they get
   the time at which it was read.

   Bytes from outside are compared, measured and copied here, nothing else. Of their values only these are used: lengths
   that fit exactly what has arrived, the checksum, and free numbers. A frame that leaves any doubt does not match: it is
   left to Python. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#define MAX_EXPECTED 16
#define MAX_BECOMES 64
#define MAX_SIZE 8192
#define MAX_HEAD 2048
#define MAX_MESSAGES 2048
#define MAX_RUN 16
#define MAX_RUN_SIZE 32768
#define MAX_NUMBERS 2
#define MAX_PIECES 512
#define MAX_HELD 65536 /* bytes up to which a write does not release the interpreter: some ten microseconds */
#define MAX_COUNTERS 256
#define LARGEST ((uint64_t)1 << 61)
#define NUMBER_SIZE 9
#define BATCH_HEAD 5
#define TIME_SIZE 9
#define LONGEST_GAP 0.003 /* seconds; a longer gap between two frames counts as this long */
#define AT_ONCE 0.00001   /* seconds; after a shorter sleep the data was there before it */
#define HABITS_SIZE ((long)sizeof(Habits))

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE */
#endif

enum framing { COUNTED, FROM_SERVER, FROM_CLIENT };

/* A number in a head: `at` bytes of the head, without its numbers, are before it. */
typedef struct {
    Py_ssize_t at;
    int counter, is_free;
} Number;

/* A frame on one socket: framing, head with numbers, checksum if `checked`, batch, tail, a time if `timed`. */
typedef struct {
    int descriptor, framing, checked, timed, number_count;
    const unsigned char *head, *tail;
    Py_ssize_t head_size, tail_size;
    Number numbers[MAX_NUMBERS];
} Way;

typedef struct {
    Way in;
    Way outs[MAX_BECOMES];
    int count;
    int answers;     /* index of the expected frame that it answers; -1 for none */
    int is_answered; /* another expected frame answers it */
} Expected;

typedef struct {
    const unsigned char *data;
    Py_ssize_t size;
    uint32_t crc, count;
    uint64_t numbers[MAX_NUMBERS]; /* of its frame */
    Py_ssize_t end;                /* end of its frame, from the beginning of the frame */
    const unsigned char *time;     /* at the end of its frame, in MessagePack; NULL for none */
} Batch;

typedef struct {
    uint64_t values[MAX_COUNTERS];
    int count;
} Counters;

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

/* ---- received frames ---- */

/* Find the first frame in received bytes, without its framing; return whether it is complete. */
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
    Py_ssize_t length = data[1] & 0x7F;
    if (length == 126) {
        length = (Py_ssize_t)big_endian(data + 2, 2);
        at = 4;
    }
    *begin = at + mask;
    *end = *begin + length;
    return length <= MAX_SIZE && *end <= size && (!mask || !memcmp(data + at, "\0\0\0\0", 4));
}

/* Read an unsigned number of MessagePack; return how many bytes it takes, 0 if there is none. */
static Py_ssize_t read_number(const unsigned char *data, Py_ssize_t size, uint64_t *value)
{
    if (size < 1)
        return 0;
    if (data[0] < 0x80) {
        *value = data[0];
        return 1;
    }
    if (data[0] < 0xCC || data[0] > 0xCF)
        return 0;
    Py_ssize_t bytes = (Py_ssize_t)1 << (data[0] - 0xCC);
    if (size < 1 + bytes)
        return 0;
    *value = 0;
    for (Py_ssize_t at = 1; at <= bytes; at++)
        *value = *value << 8 | data[at];
    return 1 + bytes;
}

/* Return whether the data begins with the head of a frame, with valid numbers; find the end of the head. */
static int is_head(const Way *way, const unsigned char *data, Py_ssize_t size, const Counters *counters, Batch *batch,
                   Py_ssize_t *end)
{
    Py_ssize_t at = 0, done = 0;
    for (int which = 0; which <= way->number_count; which++) {
        Py_ssize_t piece = (which < way->number_count ? way->numbers[which].at : way->head_size) - done;
        if (size - at < piece || memcmp(data + at, way->head + done, (size_t)piece))
            return 0;
        at += piece;
        done += piece;
        if (which == way->number_count)
            break;
        uint64_t value, counter = counters->values[way->numbers[which].counter];
        Py_ssize_t taken = read_number(data + at, size - at, &value);
        if (!taken || value > LARGEST || (way->numbers[which].is_free ? value < counter : value != counter))
            return 0;
        batch->numbers[which] = value;
        at += taken;
    }
    *end = at;
    return 1;
}

/* Return whether the data begins with the expected frame; find its batch. */
static int is_expected(const Way *way, const unsigned char *data, Py_ssize_t size, const Counters *counters, Batch *batch)
{
    Py_ssize_t at, end, head;
    if (!find_frame(way->framing, data, size, &at, &end) || end - at < way->head_size + way->tail_size ||
        !is_head(way, data + at, end - at, counters, batch, &head))
        return 0;
    batch->end = end;
    batch->time = NULL;
    at += head;
    if (way->timed) {
        end -= TIME_SIZE;
        if (end < at || data[end] != 0xCB)
            return 0;
        batch->time = data + end;
    }
    end -= way->tail_size;
    if (end < at || memcmp(data + end, way->tail, (size_t)way->tail_size))
        return 0;
    uint32_t checksum = 0;
    if (way->checked) {
        if (end - at < 5 || data[at] != 0xCE)
            return 0;
        checksum = big_endian(data + at + 1, 4);
        at += 5;
    }
    /* MessagePack's shortest form, which Python writes, and no other. */
    if (end - at >= 2 && data[at] == 0xC4)
        batch->size = data[at + 1], at += 2;
    else if (end - at >= 3 && data[at] == 0xC5 && big_endian(data + at + 1, 2) > 0xFF)
        batch->size = (Py_ssize_t)big_endian(data + at + 1, 2), at += 3;
    else
        return 0;
    batch->data = data + at;
    if (batch->size != end - at || batch->size < BATCH_HEAD || batch->data[0] != 0xDD)
        return 0;
    batch->count = big_endian(batch->data + 1, 4);
    if (!batch->count || batch->count > MAX_MESSAGES)
        return 0;
    batch->crc = crc32_of(batch->data, batch->size);
    /* The forecast of a frame has room for a checksum of four bytes; a smaller one is written shorter. */
    return batch->crc > 0xFFFF && (!way->checked || batch->crc == checksum);
}

/* ---- frames to write ---- */

/* Write a number in MessagePack's shortest form, which Python writes too; return how many bytes it takes. */
static Py_ssize_t write_number(uint64_t value, unsigned char *out)
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

static Py_ssize_t write_head(const Way *way, const Counters *counters, unsigned char *out)
{
    Py_ssize_t done = 0;
    unsigned char *at = out;
    for (int which = 0; which < way->number_count; which++) {
        Py_ssize_t piece = way->numbers[which].at - done;
        memcpy(at, way->head + done, (size_t)piece);
        at += piece;
        done += piece;
        at += write_number(counters->values[way->numbers[which].counter], at);
    }
    memcpy(at, way->head + done, (size_t)(way->head_size - done));
    return at + (way->head_size - done) - out;
}

/* Write a time in MessagePack. */
static void write_time(double value, unsigned char *out)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    out[0] = 0xCB;
    for (int at = 8; at; at--, bits >>= 8)
        out[at] = (unsigned char)bits;
}

/* Write a frame; return its size. `time`, in MessagePack, is for a batch that has come without one. */
static Py_ssize_t write_frame(const Way *way, const Batch *batch, const Counters *counters, const unsigned char *time,
                              unsigned char *out)
{
    unsigned char head[MAX_HEAD + MAX_NUMBERS * NUMBER_SIZE];
    Py_ssize_t head_size = write_head(way, counters, head);
    Py_ssize_t bin_head = batch->size > 0xFF ? 3 : 2;
    Py_ssize_t size = head_size + (way->checked ? 5 : 0) + bin_head + batch->size + way->tail_size +
                      (way->timed ? TIME_SIZE : 0);
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
    memcpy(at, head, (size_t)head_size), at += head_size;
    if (way->checked) {
        *at++ = 0xCE;
        for (int shift = 24; shift >= 0; shift -= 8)
            *at++ = (unsigned char)(batch->crc >> shift);
    }
    *at++ = batch->size > 0xFF ? 0xC5 : 0xC4;
    if (batch->size > 0xFF)
        *at++ = (unsigned char)(batch->size >> 8);
    *at++ = (unsigned char)batch->size;
    memcpy(at, batch->data, (size_t)batch->size), at += batch->size;
    memcpy(at, way->tail, (size_t)way->tail_size), at += way->tail_size;
    if (way->timed)
        memcpy(at, batch->time ? batch->time : time, TIME_SIZE), at += TIME_SIZE;
    return at - out;
}

static int is_same_frame(const Way *one, const Way *other)
{
    return one->framing == other->framing && one->checked == other->checked && one->timed == other->timed &&
           one->head == other->head && one->tail == other->tail && one->number_count == other->number_count &&
           !memcmp(one->numbers, other->numbers, sizeof one->numbers);
}

/* Set the counters of the numbers that have come, which may be larger than expected, for the results of the frame. */
static void follow_numbers(const Expected *expected, const Batch *batch, Counters *counters)
{
    for (int which = 0; which < expected->in.number_count; which++)
        counters->values[expected->in.numbers[which].counter] = batch->numbers[which];
}

/* Advance the counters of a frame by its messages; a counter that is in several places advances once. */
static void advance_counters(const Expected *expected, const Batch *batch, Counters *counters)
{
    uint64_t after[MAX_COUNTERS];
    memcpy(after, counters->values, sizeof(uint64_t) * (size_t)counters->count);
    for (int out = 0; out < expected->count; out++)
        for (int which = 0; which < expected->outs[out].number_count; which++) {
            int counter = expected->outs[out].numbers[which].counter;
            after[counter] = counters->values[counter] + batch->count;
        }
    for (int which = 0; which < expected->in.number_count; which++)
        after[expected->in.numbers[which].counter] = batch->numbers[which] + batch->count;
    memcpy(counters->values, after, sizeof(uint64_t) * (size_t)counters->count);
}

/* ---- a run of frames ---- */

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
    Py_ssize_t begin;
    Py_ssize_t written[MAX_BECOMES];
    int which, segment; /* index of the expected frame, and of the segment */
    uint32_t count;
    int is_open; /* its answer is expected, and has not arrived */
} Passed;

/* The bytes of one read. */
typedef struct {
    Py_ssize_t begin, end;
    int descriptor;
    double time;
    unsigned char packed_time[TIME_SIZE]; /* the same in MessagePack */
} Segment;

/* What usually follows a frame on a socket: the seconds until the next frame on any socket, and that socket. */
typedef struct {
    double gap;
    int descriptor, next;
} Habit;

typedef struct {
    Habit habits[MAX_EXPECTED];
    double last;    /* time of the last frame */
    int descriptor; /* its socket */
} Habits;

typedef struct {
    unsigned char data[MAX_RUN_SIZE], out[MAX_SIZE + MAX_HEAD + 64];
    double offset, step, last; /* of the host's clock, see `time_now` */
    Py_ssize_t size, done; /* received bytes, and those of them that were passed on */
    uint32_t messages;
    int count, segment_count;
    int is_over;   /* Python continues */
    int was_there; /* the data to be read had arrived before the sleep */
    Passed passed[MAX_RUN];
    Segment segments[MAX_RUN + 1];
    Habits habits;
} Run;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Return the time of the host's clock, as `message_clock.py` does: that of the wall clock, unless it has been set; and never
   before the last one. */
static double time_now(Run *run)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    double wall = (double)time.tv_sec + (double)time.tv_nsec * 1e-9, found = run->offset + now();
    if (wall - found <= run->step && found - wall <= run->step)
        found = wall;
    if (found > run->last)
        run->last = found;
    return run->last;
}

/* ---- when to end a run: after a frame that is usually followed by a long gap ---- */

static Habit *habit_of(Habits *habits, int descriptor)
{
    Habit *habit = &habits->habits[(unsigned)descriptor % MAX_EXPECTED];
    return habit->descriptor == descriptor && habit->gap > 0 ? habit : NULL;
}

/* Learn from the arrival of a frame. If it was there already, half of the time is taken as the gap: it is unknown. */
static void note_arrival(Habits *habits, int descriptor, double time, int was_there)
{
    int before = habits->descriptor;
    double gap = time - habits->last;
    habits->last = time;
    habits->descriptor = descriptor;
    if (before <= 0)
        return;
    if (was_there)
        gap /= 2;
    if (gap > LONGEST_GAP)
        gap = LONGEST_GAP;
    Habit *habit = habit_of(habits, before);
    if (!habit) {
        habit = &habits->habits[(unsigned)before % MAX_EXPECTED];
        *habit = (Habit){gap, before, descriptor};
    } else if (!was_there) {
        habit->gap += (gap - habit->gap) / 4;
    } else if (gap < habit->gap) {
        habit->gap = gap;
    }
    habit->next = descriptor;
}

/* Return how long to wait for the next frame, `since` seconds after the first frame of a run; 0 to end the run.

   The work on a run takes `work` seconds, and a frame that arrives meanwhile waits for it. So a run should end after a
   frame that is usually followed by a gap of that length: the last such frame before `latest`. If there is none, the run
   ends at `latest`. */
static double waiting_time(Habits *habits, double since, double follow, double latest, double work)
{
    Habit *habit = habit_of(habits, habits->descriptor), *later = habit;
    double left = latest - since, then = since, longest;
    if (!habit)
        return follow <= left ? follow : 0;
    int is_better = 0;
    for (int step = 0; later && !is_better && step < MAX_RUN; step++) {
        then += later->gap;
        later = habit_of(habits, later->next);
        is_better = then <= latest && later && later->gap >= work;
    }
    if (!is_better && (habit->gap >= work || habit->gap > left))
        return 0;
    longest = 2 * habit->gap > follow ? 2 * habit->gap : follow;
    return longest < left ? longest : left;
}

/* Return the frame that a frame from a socket would answer: the oldest one without an answer that went there. */
static Passed *oldest_unanswered(const Expected *expected, int descriptor, Run *run)
{
    for (int at = 0; at < run->count; at++) {
        Passed *passed = &run->passed[at];
        if (passed->is_open && expected[passed->which].outs[0].descriptor == descriptor)
            return passed;
    }
    return NULL;
}

/* Pass the next frame on if it is expected; return whether it was. */
static int pass_on(const Expected *expected, int count, int descriptor, Counters *counters, Run *run)
{
    for (int which = 0; which < count; which++) {
        const Expected *one = &expected[which];
        Batch batch;
        if (one->in.descriptor != descriptor ||
            !is_expected(&one->in, run->data + run->done, run->size - run->done, counters, &batch))
            continue;
        if (one->answers >= 0) {
            Passed *question = oldest_unanswered(expected, descriptor, run);
            if (!question || question->which != one->answers || question->count != batch.count)
                continue;
            question->is_open = 0;
        }
        Passed *passed = &run->passed[run->count++];
        passed->count = batch.count;
        passed->is_open = one->is_answered;
        passed->begin = run->done;
        passed->which = which;
        passed->segment = run->segment_count - 1;
        Py_ssize_t size = 0;
        follow_numbers(one, &batch, counters);
        for (int out = 0; out < one->count; out++) {
            const Way *way = &one->outs[out];
            if (!out || !is_same_frame(way, way - 1))
                size = write_frame(way, &batch, counters, run->segments[passed->segment].packed_time, run->out);
            Py_ssize_t sent = send(way->descriptor, run->out, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
            passed->written[out] = sent > 0 ? sent : 0;
            run->is_over |= sent < size; /* Python must write the rest of it before any other frame */
        }
        advance_counters(one, &batch, counters);
        run->done += batch.end;
        run->messages += batch.count;
        return 1;
    }
    return 0;
}

/* Read from a socket, and pass on the frames that are expected; return whether anything was read. */
static int read_socket(const Expected *expected, int count, int descriptor, Counters *counters, Run *run)
{
    Py_ssize_t room = MAX_RUN_SIZE - run->size;
    Py_ssize_t size = recv(descriptor, run->data + run->size, (size_t)(room < MAX_SIZE ? room : MAX_SIZE), MSG_DONTWAIT);
    if (size <= 0)
        return 0; /* end of the stream, or an error: Python's transport will find it too */
    Segment *segment = &run->segments[run->segment_count++];
    *segment = (Segment){run->size, run->size + size, descriptor, time_now(run), {0}};
    write_time(segment->time, segment->packed_time);
    run->size += size;
    int before = run->count;
    do {
        if (!pass_on(expected, count, descriptor, counters, run))
            run->is_over = 1;
        else if (run->count == MAX_RUN || run->messages >= MAX_MESSAGES || MAX_RUN_SIZE - run->size < MAX_SIZE)
            run->is_over = 1;
    } while (!run->is_over && run->done < run->size);
    if (run->count > before)
        note_arrival(&run->habits, descriptor, now(), run->was_there);
    return 1;
}

/* Return whether anything else has happened than that sockets with expected frames can be read. */
static int is_other_event(const struct pollfd *polled, int count)
{
    for (int at = 1; at < count; at++)
        if (polled[at].revents & ~POLLIN)
            return 1;
#ifdef __linux__
    struct epoll_event ready[MAX_EXPECTED + 1];
    int found = polled[0].revents ? epoll_wait(polled[0].fd, ready, MAX_EXPECTED + 1, 0) : 0;
    for (int which = 0; which < found; which++) {
        int known = 0;
        for (int at = 1; at < count; at++)
            known |= polled[at].fd == ready[which].data.fd;
        if (!known)
            return 1;
    }
    return found < 0;
#else
    return polled[0].revents != 0;
#endif
}

/* Read from all sockets that are ready, one after the other; return whether anything was read. */
static int read_ready(const Expected *expected, int count, const struct pollfd *polled, int polled_count, Counters *counters,
                    Run *run)
{
    int anything = 0;
    for (int at = 1; at < polled_count && !run->is_over; at++)
        if (polled[at].revents & POLLIN)
            anything |= read_socket(expected, count, polled[at].fd, counters, run);
    return anything;
}

/* ---- arguments and results of Python ---- */

static int is_tuple(PyObject *given)
{
    if (!PyTuple_Check(given))
        PyErr_SetString(PyExc_TypeError, "expected a tuple");
    return PyTuple_Check(given);
}

static int parse_numbers(PyObject *given, int counters, int is_in, Way *way)
{
    Py_ssize_t before = 0;
    way->number_count = (int)PyTuple_GET_SIZE(given);
    memset(way->numbers, 0, sizeof way->numbers);
    if (PyTuple_GET_SIZE(given) > MAX_NUMBERS) {
        PyErr_SetString(PyExc_ValueError, "too many numbers in a frame");
        return -1;
    }
    for (int which = 0; which < way->number_count; which++) {
        Number *number = &way->numbers[which];
        PyObject *one = PyTuple_GET_ITEM(given, which);
        if (!is_tuple(one) || !PyArg_ParseTuple(one, "nip", &number->at, &number->counter, &number->is_free))
            return -1;
        if (number->at < before || number->at > way->head_size || number->counter < 0 || number->counter >= counters ||
            (number->is_free && !is_in)) {
            PyErr_SetString(PyExc_ValueError, "invalid offset or counter of a number");
            return -1;
        }
        before = number->at;
    }
    return 0;
}

static int parse_way(PyObject *given, int counters, int is_in, Way *way)
{
    PyObject *numbers;
    if (!is_tuple(given) ||
        !PyArg_ParseTuple(given, "iiy#py#pO!", &way->descriptor, &way->framing, &way->head, &way->head_size, &way->checked,
                          &way->tail, &way->tail_size, &way->timed, &PyTuple_Type, &numbers))
        return -1;
    if (way->head_size + way->tail_size > MAX_HEAD || way->framing < COUNTED || way->framing > FROM_CLIENT) {
        PyErr_SetString(PyExc_ValueError, "unknown framing, or a head that is too long");
        return -1;
    }
    return parse_numbers(numbers, counters, is_in, way);
}

static int parse_expected(PyObject *given, int counters, Expected *expected)
{
    PyObject *in, *outs;
    if (!is_tuple(given) || !PyArg_ParseTuple(given, "OO!i", &in, &PyTuple_Type, &outs, &expected->answers) ||
        parse_way(in, counters, 1, &expected->in))
        return -1;
    expected->count = (int)PyTuple_GET_SIZE(outs);
    if (PyTuple_GET_SIZE(outs) > MAX_BECOMES) {
        PyErr_SetString(PyExc_ValueError, "too many results of one frame");
        return -1;
    }
    for (int out = 0; out < expected->count; out++)
        if (parse_way(PyTuple_GET_ITEM(outs, out), counters, 0, &expected->outs[out]))
            return -1;
    return 0;
}

/* Mark the expected frames that are answered by another expected frame. */
static int find_answers(Expected *expected, int count)
{
    for (int which = 0; which < count; which++)
        expected[which].is_answered = 0;
    for (int which = 0; which < count; which++) {
        int answers = expected[which].answers;
        if (answers < 0)
            continue;
        if (answers >= count || expected[answers].count != 1) {
            PyErr_SetString(PyExc_ValueError, "an answer to a frame that is not expected, or has several results");
            return -1;
        }
        expected[answers].is_answered = 1;
    }
    return 0;
}

static int parse_counters(PyObject *given, Counters *counters)
{
    if (PyTuple_GET_SIZE(given) > MAX_COUNTERS) {
        PyErr_SetString(PyExc_ValueError, "too many counters");
        return -1;
    }
    counters->count = (int)PyTuple_GET_SIZE(given);
    for (int which = 0; which < counters->count; which++) {
        counters->values[which] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(given, which));
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* Return the bytes that were written for one frame, on each of its ways. */
static PyObject *written_for(const Expected *one, const Run *run, const Passed *passed, Counters *counters)
{
    unsigned char frame[MAX_SIZE + MAX_HEAD + 64];
    Batch batch;
    is_expected(&one->in, run->data + passed->begin, run->size - passed->begin, counters, &batch);
    follow_numbers(one, &batch, counters);
    PyObject *written = PyTuple_New(one->count);
    for (int out = 0; written && out < one->count; out++) {
        write_frame(&one->outs[out], &batch, counters, run->segments[passed->segment].packed_time, frame);
        PyObject *bytes = PyBytes_FromStringAndSize((char *)frame, passed->written[out]);
        if (bytes)
            PyTuple_SET_ITEM(written, out, bytes);
        else
            Py_CLEAR(written);
    }
    advance_counters(one, &batch, counters);
    return written;
}

/* Return the segments and the frames that were passed on, as `wait` returns them. */
static PyObject *result_of(const Expected *expected, const Run *run, Counters *counters)
{
    PyObject *passed = PyTuple_New(run->count);
    for (int at = 0; passed && at < run->count; at++) {
        const Passed *frame = &run->passed[at];
        PyObject *written = written_for(&expected[frame->which], run, frame, counters);
        PyObject *one = written ? Py_BuildValue("iiN", frame->segment, frame->which, written) : NULL;
        if (one)
            PyTuple_SET_ITEM(passed, at, one);
        else
            Py_CLEAR(passed);
    }
    PyObject *segments = passed ? PyTuple_New(run->segment_count) : NULL;
    for (int at = 0; segments && at < run->segment_count; at++) {
        const Segment *segment = &run->segments[at];
        int which = 0;
        while (expected[which].in.descriptor != segment->descriptor)
            which++;
        PyObject *one = Py_BuildValue("iy#d", which, (char *)run->data + segment->begin, segment->end - segment->begin,
                                      segment->time);
        if (one)
            PyTuple_SET_ITEM(segments, at, one);
        else
            Py_CLEAR(segments);
    }
    if (!segments) {
        Py_XDECREF(passed);
        return NULL;
    }
    return Py_BuildValue("NN", segments, passed);
}

PyDoc_STRVAR(wait_doc,
             "wait(others, timeout, linger, follow, latest, work, clock, habits, expected, counters)\n--\n\nSee ``co2.server.express.loop``.");

static PyObject *express_wait(PyObject *module, PyObject *args)
{
    Expected expected[MAX_EXPECTED];
    Counters counters, first;
    Run run;
    int others;
    double timeout, linger, follow, latest, work;
    PyObject *all, *values, *kept;
    if (!PyArg_ParseTuple(args, "iddddd(ddd)O!O!O!", &others, &timeout, &linger, &follow, &latest, &work, &run.offset,
                          &run.step, &run.last, &PyByteArray_Type, &kept, &PyTuple_Type, &all, &PyTuple_Type, &values) ||
        parse_counters(values, &counters))
        return NULL;
    if (PyByteArray_GET_SIZE(kept) != sizeof run.habits) {
        PyErr_SetString(PyExc_ValueError, "habits of the wrong size");
        return NULL;
    }
    first = counters;
    int count = (int)PyTuple_GET_SIZE(all), polled_count = 1;
    if (PyTuple_GET_SIZE(all) > MAX_EXPECTED) {
        PyErr_SetString(PyExc_ValueError, "too many expected frames");
        return NULL;
    }
    struct pollfd polled[MAX_EXPECTED + 1] = {{others, POLLIN, 0}};
    for (int which = 0; which < count; which++) {
        if (parse_expected(PyTuple_GET_ITEM(all, which), counters.count, &expected[which]))
            return NULL;
        int known = 0;
        for (int at = 1; at < polled_count; at++)
            known |= polled[at].fd == expected[which].in.descriptor;
        if (!known)
            polled[polled_count++] = (struct pollfd){expected[which].in.descriptor, POLLIN, 0};
    }
    if (find_answers(expected, count))
        return NULL;
    run.size = run.done = 0;
    run.count = run.segment_count = run.is_over = 0;
    run.messages = 0;
    memcpy(&run.habits, PyByteArray_AS_STRING(kept), sizeof run.habits);
    Py_BEGIN_ALLOW_THREADS
    double first_time = now();
    if (sleep_until_ready(polled, polled_count, timeout) > 0) {
        run.was_there = now() - first_time < AT_ONCE;
        read_ready(expected, count, polled, polled_count, &counters, &run);
    }
    run.was_there = 0;
    first_time = run.habits.last;
    /* Linger: the next process on the message's way gets a processor first, and frames that follow join the run. */
    while (linger > 0 && run.count) {
        double since = now() - first_time, left = linger;
        if (!run.is_over && follow > linger) {
            double longer = waiting_time(&run.habits, since, follow, latest, work);
            left = longer > linger ? longer : linger;
        }
        if (since > latest || sleep_until_ready(polled, polled_count, left) <= 0 || run.is_over ||
            is_other_event(polled, polled_count) ||
            !read_ready(expected, count, polled, polled_count, &counters, &run))
            break;
    }
    Py_END_ALLOW_THREADS
    memcpy(PyByteArray_AS_STRING(kept), &run.habits, sizeof run.habits);
    if (!run.segment_count)
        Py_RETURN_NONE;
    return result_of(expected, &run, &first);
}

PyDoc_STRVAR(note_arrival_doc,
             "note_arrival(habits, descriptor)\n--\n\nLearn that data has arrived there during the work, without ``wait``.");

static PyObject *express_note_arrival(PyObject *module, PyObject *args)
{
    Habits habits;
    PyObject *kept;
    int descriptor;
    if (!PyArg_ParseTuple(args, "O!i", &PyByteArray_Type, &kept, &descriptor))
        return NULL;
    if (PyByteArray_GET_SIZE(kept) != sizeof habits) {
        PyErr_SetString(PyExc_ValueError, "habits of the wrong size");
        return NULL;
    }
    memcpy(&habits, PyByteArray_AS_STRING(kept), sizeof habits);
    note_arrival(&habits, descriptor, now(), 1);
    memcpy(PyByteArray_AS_STRING(kept), &habits, sizeof habits);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(write_now_doc,
    "write_now(descriptor, pieces)\n--\n\nWrite pieces to a socket and return the number of bytes written, 0 if its buffer "
    "is full or it is broken.\n\nA short write does not release the interpreter: where other threads compute, each "
    "release costs ten times the write.");

static PyObject *express_write_now(PyObject *module, PyObject *const *given, Py_ssize_t count_given)
{
    struct iovec parts[MAX_PIECES];
    struct msghdr message = {.msg_iov = parts};
    if (count_given != 2 || !PyList_Check(given[1])) {
        PyErr_SetString(PyExc_TypeError, "a descriptor and a list are expected");
        return NULL;
    }
    long descriptor = PyLong_AsLong(given[0]);
    if (descriptor == -1 && PyErr_Occurred())
        return NULL;
    PyObject *pieces = given[1];
    Py_ssize_t count = PyList_GET_SIZE(pieces), size = 0, written;
    if (count > MAX_PIECES) {
        PyErr_SetString(PyExc_ValueError, "too many pieces");
        return NULL;
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *piece = PyList_GET_ITEM(pieces, at);
        if (!PyBytes_Check(piece)) {
            PyErr_SetString(PyExc_TypeError, "pieces are bytes");
            return NULL;
        }
        parts[at].iov_base = PyBytes_AS_STRING(piece);
        parts[at].iov_len = (size_t)PyBytes_GET_SIZE(piece);
        size += PyBytes_GET_SIZE(piece);
    }
    message.msg_iovlen = (size_t)count;
    if (size <= MAX_HELD) {
        written = sendmsg((int)descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        PyObject *kept = PyList_AsTuple(pieces); /* another thread might change the list meanwhile */
        if (!kept)
            return NULL;
        Py_BEGIN_ALLOW_THREADS
        written = sendmsg((int)descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        Py_END_ALLOW_THREADS
        Py_DECREF(kept);
    }
    return PyLong_FromSsize_t(written < 0 ? 0 : written);
}

static PyMethodDef functions[] = {
    {"write_now", (PyCFunction)(void (*)(void))express_write_now, METH_FASTCALL, write_now_doc},
    {"note_arrival", express_note_arrival, METH_VARARGS, note_arrival_doc},
    {"wait", express_wait, METH_VARARGS, wait_doc},
    {NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "co2.server.express._express",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__express(void)
{
    make_crc_table();
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddIntMacro(made, SOURCE) || PyModule_AddIntMacro(made, MAX_BECOMES) ||
                 PyModule_AddIntMacro(made, MAX_EXPECTED) || PyModule_AddIntMacro(made, MAX_HEAD) ||
                 PyModule_AddIntMacro(made, MAX_NUMBERS) || PyModule_AddIntMacro(made, MAX_COUNTERS) ||
                 PyModule_AddIntMacro(made, MAX_RUN_SIZE) || PyModule_AddIntMacro(made, MAX_RUN) || PyModule_AddIntMacro(made, MAX_MESSAGES) || PyModule_AddIntMacro(made, MAX_PIECES) || PyModule_AddIntMacro(made, MAX_HELD) ||
                 PyModule_AddIntMacro(made, HABITS_SIZE)))
        Py_CLEAR(made);
    return made;
}
