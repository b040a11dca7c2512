// Memory that is there before it is needed.
#pragma once

#include <sys/mman.h>

#include <cstddef>

namespace fh {

// Takes the pages of a writable mapping now, so that nobody faults them in later; false when the system has
// no such advice (before Linux 5.14) or no memory. MAP_POPULATE alone does not do it: it is silently passed
// over once memory is locked as it is touched (MCL_ONFAULT), and maps shared files for reading only.
inline bool populate(void* memory, std::size_t bytes) {
    return ::madvise(memory, bytes, 23 /* MADV_POPULATE_WRITE */) == 0;
}

}  // namespace fh
