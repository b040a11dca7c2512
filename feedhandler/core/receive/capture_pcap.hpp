// The classic pcap format: microsecond and nanosecond, both byte orders (draft-ietf-opsawg-pcap).
#pragma once

#include "receive/capture_frame.hpp"
#include "receive/file_bytes.hpp"

namespace fh::receive {

class PcapReader {
  public:
    static bool recognises(FileBytes file) {
        return file.size() >= 4 && (magic(file, false) || magic(file, true));
    }

    explicit PcapReader(FileBytes file) : file_(file) {
        big_endian_ = magic(file, true) != 0;
        fraction_ns_ = magic(file, big_endian_) == nanosecond_magic ? 1 : 1000;
        if (file.size() < file_header) {
            offset_ = 0;
            end_ = FileEnd::truncated;
            return;
        }
        link_type_ =
            load<std::uint32_t>(file, 20, big_endian_) & 0x0FFFFFFF;  // the upper bits tell of the FCS
    }

    bool next(Frame& out) {
        if (end_ != FileEnd::none) return false;
        const std::size_t left = file_.size() - offset_;
        if (left < record_header) return stop(left == 0 ? FileEnd::whole : FileEnd::truncated);
        const auto at = offset_;
        out.length = load<std::uint32_t>(file_, at + 8, big_endian_);
        if (out.length > longest_frame) return stop(FileEnd::broken);
        if (out.length > left - record_header) return stop(FileEnd::truncated);
        out.ts_ns = std::int64_t{load<std::uint32_t>(file_, at, big_endian_)} * 1'000'000'000 +
                    std::int64_t{load<std::uint32_t>(file_, at + 4, big_endian_)} * fraction_ns_;
        out.original_length = load<std::uint32_t>(file_, at + 12, big_endian_);
        out.data = file_.data() + at + record_header;
        out.link_type = link_type_;
        offset_ = at + record_header + out.length;
        return true;
    }

    FileEnd end() const { return end_; }
    std::uint64_t offset() const { return offset_; }

  private:
    static constexpr std::uint32_t microsecond_magic = 0xA1B2C3D4;
    static constexpr std::uint32_t nanosecond_magic = 0xA1B23C4D;
    static constexpr std::size_t file_header = 24;
    static constexpr std::size_t record_header = 16;
    static constexpr std::uint32_t longest_frame = 1u << 26;  // more is damage, not a frame

    static std::uint32_t magic(FileBytes file, bool big_endian) {
        const auto value = load<std::uint32_t>(file, 0, big_endian);
        return value == microsecond_magic || value == nanosecond_magic ? value : 0;
    }
    bool stop(FileEnd why) {
        end_ = why;
        return false;
    }

    FileBytes file_;
    std::size_t offset_ = file_header;
    std::int64_t fraction_ns_;
    std::uint32_t link_type_ = 0;
    bool big_endian_;
    FileEnd end_ = FileEnd::none;
};

}  // namespace fh::receive
