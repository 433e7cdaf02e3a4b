"""Python objects to librdkafka's structures and back."""

cimport librdkafka as rdk
from cpython.buffer cimport PyBUF_FULL_RO, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.unicode cimport PyUnicode_Check
from libc.stddef cimport size_t
from libc.stdlib cimport calloc

from collections.abc import Mapping


cdef int _buffer(value, void **data, size_t *size, list keep, str what, Py_ssize_t index) except -1:
    """Point at a value's bytes; what must outlive the pointer goes to ``keep``. None is a null."""
    cdef Py_ssize_t length = 0
    cdef Py_buffer buffer
    cdef bint contiguous
    if PyBytes_Check(value):
        data[0] = PyBytes_AS_STRING(value)
        size[0] = PyBytes_GET_SIZE(value)
    elif value is None:
        data[0] = NULL
        size[0] = 0
    elif PyUnicode_Check(value):
        data[0] = <void *> PyUnicode_AsUTF8AndSize(value, &length)
        size[0] = length
    elif isinstance(value, (bytearray, memoryview)):
        view = PyMemoryView_FromObject(value)
        PyObject_GetBuffer(view, &buffer, PyBUF_FULL_RO)
        data[0] = buffer.buf if buffer.len else <void *> b""
        size[0] = buffer.len
        contiguous = PyBuffer_IsContiguous(&buffer, c"C")
        PyBuffer_Release(&buffer)  # the view holds the bytes
        if not contiguous:
            raise ValueError(f"{_place(what, index)} is a memoryview with gaps; pass a contiguous one, or bytes(view)")
        keep.append(view)
    else:
        raise TypeError(
            f"{_place(what, index)} is {type(value).__name__}; it must be bytes, bytearray, memoryview, str or None")
    return 0

cdef str _place(str what, Py_ssize_t index):
    return what if index < 0 else f"{what}[{index}]"

cdef tuple _items(sequence, str what, Py_ssize_t expected):
    """The items as a tuple, which nobody can change while the GIL is released."""
    if isinstance(sequence, (str, bytes, bytearray, memoryview)) or isinstance(sequence, Mapping):
        raise TypeError(f"{what} is one {type(sequence).__name__}; it must be a sequence with one entry a record")
    items = tuple(sequence)
    if expected >= 0 and len(items) != expected:
        raise ValueError(f"{what} has {len(items)} entries for {expected} values; it must have one a record")
    return items

cdef rdk.rd_kafka_headers_t *_headers(headers, Py_ssize_t index) except? NULL:
    """New headers, owned by the caller; NULL for none."""
    if not headers:
        return NULL
    cdef rdk.rd_kafka_headers_t *result
    cdef void *data = NULL
    cdef size_t size = 0
    cdef Py_ssize_t length = 0
    cdef const char *text
    cdef list keep = []
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    result = rdk.rd_kafka_headers_new(len(pairs))
    try:
        for pair in pairs:
            name, value = pair
            if not isinstance(name, str):
                raise TypeError(f"{_place('headers', index)}: the name {name!r} must be a str")
            text = PyUnicode_AsUTF8AndSize(name, &length)
            _buffer(value, &data, &size, keep, f"headers {name!r}", index)
            _check(rdk.rd_kafka_header_add(result, text, length, data, size))
    except BaseException:
        rdk.rd_kafka_headers_destroy(result)
        raise
    return result

cdef rdk.rd_kafka_topic_partition_list_t *_partition_list(entries, bint offsets) except NULL:
    """A new list from ``(topic, partition[, offset[, leader epoch]])``, owned by the caller."""
    cdef rdk.rd_kafka_topic_partition_list_t *parts = rdk.rd_kafka_topic_partition_list_new(len(entries))
    cdef rdk.rd_kafka_topic_partition_t *part
    try:
        for entry in entries:
            topic = (<str?> entry[0]).encode()
            part = rdk.rd_kafka_topic_partition_list_add(parts, topic, entry[1])
            if offsets:
                part.offset = entry[2]
                if len(entry) > 3 and entry[3] >= 0:
                    rdk.rd_kafka_topic_partition_set_leader_epoch(part, entry[3])
    except BaseException:
        rdk.rd_kafka_topic_partition_list_destroy(parts)
        raise
    return parts

cdef dict _offsets(const rdk.rd_kafka_topic_partition_list_t *parts, bint none_if_negative):
    """``{(topic, partition): offset}``; raises the first partition's error."""
    cdef int i
    result = {}
    for i in range(parts.cnt):
        place = _text(parts.elems[i].topic), parts.elems[i].partition
        if parts.elems[i].err:
            raise kafka_error(parts.elems[i].err, f"{place[0]} [{place[1]}]: {_reason(parts.elems[i].err)}")
        offset = parts.elems[i].offset
        result[place] = None if none_if_negative and offset < 0 else offset
    return result

cdef list _encoded(names):
    return [(<str?> name).encode() for name in names]

cdef const char **_pointers(list encoded) except NULL:
    """Where each of these begins, for free(); they must outlive it."""
    cdef size_t i, n = len(encoded)
    cdef const char **pointers = <const char **> calloc(n + 1, sizeof(char *))
    if pointers == NULL:
        raise MemoryError
    for i in range(n):
        pointers[i] = PyBytes_AS_STRING(encoded[i])
    return pointers

cdef str _reason(rdk.rd_kafka_resp_err_t err):
    return _text(rdk.rd_kafka_err2str(err))
