// A session's name for Python. Its bytes are whatever the wire brought: no text that could be relied on.
#pragma once

#include <nanobind/nanobind.h>

#include <cstring>

namespace fh::bind {

// Up to the first NUL or the padding; what is not ASCII is replaced.
inline nanobind::str session_text(const char* bytes, std::size_t most) {
    std::size_t length = strnlen(bytes, most);
    while (length > 0 && bytes[length - 1] == ' ') --length;
    PyObject* const text = PyUnicode_DecodeASCII(bytes, static_cast<Py_ssize_t>(length), "replace");
    if (text == nullptr) throw nanobind::python_error();
    return nanobind::steal<nanobind::str>(text);
}

}  // namespace fh::bind
