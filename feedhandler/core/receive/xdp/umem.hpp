// The memory that the device, or the kernel, writes frames to: one area for each queue.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "receive/xdp/refuse.hpp"

namespace fh::receive::xdp {

inline constexpr std::size_t frame_headroom = 256;  // the kernel's, before each frame
inline constexpr std::size_t huge_page_bytes = 2 << 20;

// A frame fits into a page at most, and only into a power of two. What is larger comes by the kernel.
inline constexpr std::size_t frame_bytes_for(std::size_t mtu) {
    constexpr std::size_t ethernet = 14 + 4;
    return mtu + ethernet + frame_headroom <= 2048 ? 2048 : 4096;
}

class Umem {
  public:
    // In huge pages when there are some: one translation for a thousand frames. Every page is there at once.
    Umem(std::size_t frames, std::size_t frame_bytes, const std::string& what)
        : bytes_(frames * frame_bytes), frame_bytes_(frame_bytes) {
        const std::size_t whole = (bytes_ + huge_page_bytes - 1) / huge_page_bytes * huge_page_bytes;
        constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS;
        void* memory = mmap(nullptr, whole, PROT_READ | PROT_WRITE,
                            flags | MAP_HUGETLB | MAP_POPULATE | (21 << MAP_HUGE_SHIFT), -1, 0);
        huge_pages_ = memory != MAP_FAILED;
        if (!huge_pages_) {
            memory = mmap(nullptr, whole, PROT_READ | PROT_WRITE, flags, -1, 0);
            need(memory != MAP_FAILED, what, "memory for frames (receive.xdp.frames)");
            madvise(memory, whole, MADV_HUGEPAGE);  // transparent ones, if the kernel likes
            std::memset(memory, 0, whole);
        }
        madvise(memory, whole, MADV_DONTFORK);  // the kernel's writes are to these pages, not copies
        memory_ = {static_cast<std::uint8_t*>(memory), Unmap{whole}};
    }

    std::uint8_t* data() const { return memory_.get(); }
    std::size_t bytes() const { return bytes_; }
    std::size_t frame_bytes() const { return frame_bytes_; }
    bool huge_pages() const { return huge_pages_; }

  private:
    struct Unmap {
        std::size_t bytes;
        void operator()(std::uint8_t* memory) const { munmap(memory, bytes); }
    };

    std::size_t bytes_;
    std::size_t frame_bytes_;
    bool huge_pages_;
    std::unique_ptr<std::uint8_t, Unmap> memory_;
};

}  // namespace fh::receive::xdp
