// Address space taken at start-up and filled by page faults: pools never allocate while the feed runs.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#include "../populate.hpp"

namespace fh::book {

enum class Pages { small, huge };

// Zeroed memory of `count` elements. Reserved, not committed: what is never touched costs nothing.
template <class T>
class Reserved {
  public:
    Reserved(std::size_t count, Pages pages) : bytes_(round_up(count * sizeof(T))) {
        void* memory = ::mmap(nullptr, bytes_ + huge_page, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        base_ = memory;
        const auto address = reinterpret_cast<std::uintptr_t>(memory);
        data_ = reinterpret_cast<T*>((address + huge_page - 1) & ~(huge_page - 1));
        // Advice only: without transparent huge pages everything works, slower.
        if (pages == Pages::huge) ::madvise(data_, bytes_, MADV_HUGEPAGE);
    }
    Reserved(Reserved&& other) noexcept
        : bytes_(other.bytes_),
          base_(std::exchange(other.base_, nullptr)),
          data_(std::exchange(other.data_, nullptr)) {}
    Reserved& operator=(Reserved&& other) noexcept {
        std::swap(bytes_, other.bytes_);
        std::swap(base_, other.base_);
        std::swap(data_, other.data_);
        return *this;
    }
    ~Reserved() {
        if (base_ != nullptr) ::munmap(base_, bytes_ + huge_page);
    }

    T* data() const { return data_; }
    T& operator[](std::size_t i) const { return data_[i]; }
    // Takes the memory of the first `count` elements now: later a page fault would cost whoever touches them
    // first. Returns its bytes; 0: the system has no such advice (before Linux 5.14) or no memory.
    std::size_t prefault(std::size_t count) {
        const std::size_t bytes = std::min(round_up(count * sizeof(T)), bytes_);
        return populate(data_, bytes) ? bytes : 0;
    }
    // All zero again, and the memory back to the system: a system call, for rare events.
    void reset() {
        if (::madvise(data_, bytes_, MADV_DONTNEED) == 0) return;
        // Locked memory (mlockall) is only let go by the newer advice, Linux 5.18.
        if (::madvise(data_, bytes_, 24 /* MADV_DONTNEED_LOCKED */) == 0) return;
        std::memset(static_cast<void*>(data_), 0, bytes_);
    }

  private:
    static constexpr std::size_t huge_page = std::size_t{2} << 20;
    static std::size_t round_up(std::size_t bytes) { return (bytes + huge_page - 1) & ~(huge_page - 1); }

    std::size_t bytes_;
    void* base_ = nullptr;
    T* data_ = nullptr;
};

}  // namespace fh::book
