"""A notification's wire form in one pass: ids, time, and JSON text escaped into JSON text.

``rdknotify.envelope`` says what the form is, and makes it too where a name needs escaping; this is for speed only.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from os import urandom


cdef extern from *:
    """
    /* The text of a second in UTC, "YYYY-MM-DD HH:MM:SS."; returns the microseconds since. */
    static long rdn_time_text(int64_t *known, char text[32]) {
        struct timespec ts;
        struct tm utc;
        clock_gettime(CLOCK_REALTIME, &ts);
        if (ts.tv_sec != *known) {
            gmtime_r(&ts.tv_sec, &utc);
            strftime(text, 32, "%Y-%m-%d %H:%M:%S.", &utc);
            *known = ts.tv_sec;
        }
        return ts.tv_nsec / 1000;
    }
    """
    long rdn_time_text(int64_t *known, char *text)
    void *memmem(const void *text, size_t size, const void *part, size_t part_size) nogil


cdef enum:
    ID_BYTES = 32                    # of chance in a notification: 16 for the message id, 16 for the transport's
    RANDOM_BYTES = 256 * ID_BYTES    # asked of the system at a time
    ID_TEXT = 36
    SECOND_TEXT = 20

# All under the GIL.
cdef uint8_t g_random[RANDOM_BYTES]
cdef int g_random_left = 0
cdef int g_random_generation = -1    # a forked child must not use its parent's
cdef int64_t g_second = -1
cdef char g_second_text[32]

cdef const char *HEX = b"0123456789abcdef"
cdef bytes START = rb'{"oslo.version":"2.0","oslo.message":"{\"message_id\":\"'
cdef bytes PUBLISHER = rb'\",\"publisher_id\":\"'
cdef bytes EVENT_TYPE = rb'\",\"event_type\":\"'
cdef bytes PRIORITY = rb'\",\"priority\":\"'
cdef bytes PAYLOAD = rb'\",\"payload\":'
cdef bytes TIMESTAMP = rb',\"timestamp\":\"'
cdef bytes UNIQUE_ID = rb'\",\"_unique_id\":\"'
cdef bytes CONTEXT = rb'\",\"_context\":'
cdef bytes END = b'}"}'
cdef Py_ssize_t FIXED = ID_TEXT + SECOND_TEXT + 6 + ID_BYTES + sum(
    map(len, (START, PUBLISHER, EVENT_TYPE, PRIORITY, PAYLOAD, TIMESTAMP, UNIQUE_ID, CONTEXT, END)))


def compose(tuple names not None, payload, bytes payload_json not None, context, bytes context_json not None):
    """``(message id, wire form)`` of a notification made now, or None if this is not for it.

    ``names`` are publisher id, event type and priority; it is not for names that need escaping, nor for what
    orjson has written null for although it is none (NaN). The JSON of payload and context stands behind each.
    """
    cdef const char *texts[3]
    cdef Py_ssize_t sizes[3]
    cdef Py_ssize_t total = FIXED
    cdef char message_id[ID_TEXT]
    cdef const uint8_t *chance
    cdef char *to
    cdef long microseconds
    cdef int i
    if not _same(payload, payload_json) or not _same(context, context_json):
        return None
    for i, name in enumerate(names):
        if type(name) is not str:
            return None
        try:
            texts[i] = PyUnicode_AsUTF8AndSize(name, &sizes[i])
        except UnicodeEncodeError:  # a lone surrogate
            return None
        if _must_escape(texts[i], sizes[i]):
            return None
        total += sizes[i]
    total += _escaped_size(payload_json) + _escaped_size(context_json)
    chance = _chance()
    _uuid(message_id, chance)
    value = PyBytes_FromStringAndSize(NULL, total)
    to = _put(PyBytes_AS_STRING(value), START)
    memcpy(to, message_id, ID_TEXT)
    to = _put(to + ID_TEXT, PUBLISHER)
    memcpy(to, texts[0], sizes[0])
    to = _put(to + sizes[0], EVENT_TYPE)
    memcpy(to, texts[1], sizes[1])
    to = _put(to + sizes[1], PRIORITY)
    memcpy(to, texts[2], sizes[2])
    to = _escape(_put(to + sizes[2], PAYLOAD), payload_json)
    to = _put(to, TIMESTAMP)
    microseconds = rdn_time_text(&g_second, g_second_text)
    memcpy(to, g_second_text, SECOND_TEXT)
    to += SECOND_TEXT
    for i in range(5, -1, -1):
        to[i] = HEX[microseconds % 10]
        microseconds //= 10
    to = _hex(_put(to + 6, UNIQUE_ID), chance + ID_BYTES // 2, ID_BYTES // 2)
    _put(_escape(_put(to, CONTEXT), context_json), END)
    return PyUnicode_FromStringAndSize(message_id, ID_TEXT), value

cdef bint _same(value, bytes text) except -1:
    """Whether orjson has kept everything for certain."""
    return memmem(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), b"null", 4) == NULL or _exact(value)

cdef bint _exact(value) except -1:
    """Whether this is plain JSON, and no number that orjson makes null; orjson's depth is limited, and so is this."""
    cdef double number
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return True
    if kind is dict:
        for each in (<dict> value).values():
            if not _exact(each):
                return False
        return True
    if kind is list:
        for each in <list> value:
            if not _exact(each):
                return False
        return True
    if kind is float:
        number = value
        return number - number == 0.0
    return False

cdef const uint8_t *_chance() except NULL:
    """Random bytes for one notification's ids."""
    global g_random_left, g_random_generation
    if g_random_left == 0 or g_random_generation != g_generation:
        memcpy(g_random, PyBytes_AS_STRING(urandom(RANDOM_BYTES)), RANDOM_BYTES)
        g_random_left = RANDOM_BYTES
        g_random_generation = g_generation
    g_random_left -= ID_BYTES
    return &g_random[g_random_left]

cdef void _uuid(char *to, const uint8_t *chance) noexcept nogil:
    """A random UUID, RFC 9562 version 4."""
    cdef char *start = to
    cdef int i
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            to[0] = c"-"
            to += 1
        to = _hex(to, &chance[i], 1)
    start[14] = c"4"
    start[19] = HEX[8 + (chance[8] & 3)]

cdef inline char *_hex(char *to, const uint8_t *data, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        to[2 * i] = HEX[data[i] >> 4]
        to[2 * i + 1] = HEX[data[i] & 15]
    return to + 2 * count

cdef inline char *_put(char *to, bytes text) noexcept:
    memcpy(to, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    return to + PyBytes_GET_SIZE(text)

cdef inline bint _must_escape(const char *text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        if <uint8_t> text[i] < 0x20 or text[i] == c'"' or text[i] == c"\\":
            return True
    return False

cdef inline Py_ssize_t _escaped_size(bytes text) noexcept:
    cdef const char *data = PyBytes_AS_STRING(text)
    cdef Py_ssize_t i, size = PyBytes_GET_SIZE(text), more = 0
    for i in range(size):
        more += (data[i] == c'"') | (data[i] == c"\\")
    return size + more

cdef inline char *_escape(char *to, bytes text) noexcept:
    """JSON text as the inside of a JSON string: it has no control characters, so only these two need a backslash."""
    cdef const char *data = PyBytes_AS_STRING(text)
    cdef Py_ssize_t i, size = PyBytes_GET_SIZE(text)
    for i in range(size):
        to[0] = c"\\"  # overwritten unless it is needed: faster than a branch
        to += (data[i] == c'"') | (data[i] == c"\\")
        to[0] = data[i]
        to += 1
    return to
