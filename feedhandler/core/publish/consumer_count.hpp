// How many consumers follow a channel: each holds a read lock on a byte of its own in the file `consumers`.
#pragma once

#include <fcntl.h>

#include <cstddef>
#include <limits>
#include <string>

#include "mapping.hpp"

namespace fh::publish {

// The kernel names any one lock in a range: count it, then ask left and right of it.
inline std::size_t count_read_locks(int fd, off_t first, off_t last) {
    if (first > last) return 0;
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = first;
    lock.l_len = last == std::numeric_limits<off_t>::max() ? 0 : last - first + 1;
    if (::fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return 0;
    const std::size_t right = lock.l_len == 0 ? 0 : count_read_locks(fd, lock.l_start + lock.l_len, last);
    return 1 + count_read_locks(fd, first, lock.l_start - 1) + right;  // length 0: to the end of the file
}

inline std::size_t count_consumers(const std::string& directory) {
    const FileDescriptor file(::open((directory + "/consumers").c_str(), O_RDONLY | O_CLOEXEC));
    return file.get() < 0 ? 0 : count_read_locks(file.get(), 0, std::numeric_limits<off_t>::max());
}

}  // namespace fh::publish
