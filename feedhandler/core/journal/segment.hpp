// One segment of a journal: a nanosecond pcap file, preallocated and mapped while it is written.
//
// The file's space is really there before the first packet, so that a full disk is an error at the opening
// and never a signal in the middle. What is not written yet is zero: a record of length 0 ends the chain. A
// record's length is stored last, so that a process killed at any moment leaves whole records only; after a
// power cut pages are missing anywhere in what was not synced, and checksums tell.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "journal/frame.hpp"
#include "publish/mapping.hpp"
#include "receive/file_bytes.hpp"

namespace fh::journal {

inline constexpr std::size_t pcap_header = 24;
inline constexpr std::uint32_t pcap_nanoseconds = 0xA1B23C4D;
inline constexpr std::uint32_t snap_length = 65535 + ethernet_header;
inline constexpr std::size_t longest_record = pcap_record + frame_headers + max_udp_payload;

inline void put_pcap_header(std::uint8_t* to) {
    const std::uint32_t words[6] = {pcap_nanoseconds, 2 | 4u << 16, 0, 0, snap_length, 1};
    static_assert(sizeof words == pcap_header);
    std::memcpy(to, words, sizeof words);
}

class Segment {
  public:
    // Throws std::system_error; then there is no file. One that is there is never touched.
    Segment(std::string path, std::size_t bytes) : path_(std::move(path)), size_(bytes) {
        file_ = publish::FileDescriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
        if (file_.get() < 0) throw std::system_error(errno, std::generic_category(), path_);
        int error = ::posix_fallocate(file_.get(), 0, static_cast<off_t>(size_));
        void* memory = MAP_FAILED;
        if (error == 0) {
            memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
            if (memory == MAP_FAILED) error = errno;
        }
        if (error != 0) {
            ::unlink(path_.c_str());
            throw std::system_error(error, std::generic_category(), path_);
        }
        data_ = static_cast<std::uint8_t*>(memory);
        put_pcap_header(data_);
        used_ = pcap_header;
    }
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;
    ~Segment() {
        if (data_ != nullptr) ::munmap(data_, size_);
    }

    // False: it does not fit.
    bool append(const publish::PacketHeader& packet, const std::uint8_t* payload,
                const publish::PacketOrigin& origin) {
        const std::uint32_t length = static_cast<std::uint32_t>(frame_headers) + packet.payload;
        if (used_ + pcap_record + length > size_) return false;
        std::uint8_t* record = data_ + used_;
        const auto ts = static_cast<std::uint64_t>(packet.ts_recv_ns);
        std::uint32_t words[4] = {static_cast<std::uint32_t>(ts / 1'000'000'000),
                                  static_cast<std::uint32_t>(ts % 1'000'000'000), length, length};
        put_frame(record + pcap_record, reinterpret_cast<const std::uint8_t*>(words), packet, payload,
                  origin);
        words[2] = 0;
        std::memcpy(record, words, sizeof words);
        std::atomic_thread_fence(std::memory_order_release);
        std::memcpy(record + 8, &length, sizeof length);
        used_ += pcap_record + length;
        ++packets_;
        return true;
    }

    // Cut to what was written, on disk when it returns. Throws std::system_error.
    void finish() {
        ::munmap(std::exchange(data_, nullptr), size_);
        if (::ftruncate(file_.get(), static_cast<off_t>(used_)) != 0 || ::fdatasync(file_.get()) != 0)
            throw std::system_error(errno, std::generic_category(), path_);
    }

    // Any thread.
    void sync() const {
        if (::fdatasync(file_.get()) != 0) throw std::system_error(errno, std::generic_category(), path_);
    }

    const std::string& path() const { return path_; }
    std::size_t used() const { return used_; }
    std::uint64_t packets() const { return packets_; }

  private:
    std::string path_;
    std::size_t size_;
    publish::FileDescriptor file_;
    std::uint8_t* data_ = nullptr;
    std::size_t used_ = 0;
    std::uint64_t packets_ = 0;
};

// How far a segment goes: to the end of its last whole record. What lies behind it was never written, or is
// torn.
struct Extent {
    std::size_t bytes = 0;  // 0: it is no segment, not even the header is whole
    std::uint64_t packets = 0;
    std::int64_t first_ns = 0;
    std::int64_t last_ns = 0;
};

inline Extent extent_of(receive::FileBytes file) {
    std::uint8_t header[pcap_header];
    put_pcap_header(header);
    Extent out;
    if (file.size() < pcap_header || std::memcmp(file.data(), header, pcap_header) != 0) return out;
    out.bytes = pcap_header;
    while (file.size() - out.bytes >= pcap_record) {
        std::uint32_t words[4];
        std::memcpy(words, file.data() + out.bytes, sizeof words);
        const std::size_t length = words[2];
        if (words[2] != words[3] || words[1] >= 1'000'000'000) break;
        if (length > file.size() - out.bytes - pcap_record) break;
        const std::uint8_t* record = file.data() + out.bytes;
        if (!is_whole_frame(record, record + pcap_record, length)) break;
        const std::int64_t ts = std::int64_t{words[0]} * 1'000'000'000 + words[1];
        if (out.packets++ == 0) out.first_ns = ts;
        out.last_ns = ts;
        out.bytes += pcap_record + length;
    }
    return out;
}

}  // namespace fh::journal
