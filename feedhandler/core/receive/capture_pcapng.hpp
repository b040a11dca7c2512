// The pcapng format (draft-ietf-opsawg-pcapng): any number of sections and interfaces, each with its byte
// order and its resolution of time; enhanced, simple and obsolete packet blocks; other blocks are skipped.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "receive/capture_frame.hpp"
#include "receive/file_bytes.hpp"

namespace fh::receive {

class PcapngReader {
  public:
    static bool recognises(FileBytes file) {
        return file.size() >= 4 && load<std::uint32_t>(file, 0, false) == section_block;
    }

    explicit PcapngReader(FileBytes file) : file_(file) {}

    bool next(Frame& out) {
        while (end_ == FileEnd::none) {
            Block block;
            if (!read_block(block)) return false;
            bool found = false;
            if (!read_body(block, out, found)) return stop(FileEnd::broken);
            offset_ += block.whole;
            if (found) return true;
        }
        return false;
    }

    FileEnd end() const { return end_; }
    std::uint64_t offset() const { return offset_; }

  private:
    static constexpr std::uint32_t section_block = 0x0A0D0D0A, interface_block = 1, obsolete_packet_block = 2,
                                   simple_packet_block = 3, enhanced_packet_block = 6;
    static constexpr std::uint32_t byte_order_magic = 0x1A2B3C4D;
    static constexpr std::uint16_t option_tsresol = 9, option_tsoffset = 14;
    static constexpr std::size_t frame_of_block = 12;         // type, length, length again
    static constexpr std::uint32_t longest_block = 1u << 27;  // more is damage

    struct Block {
        std::uint32_t type;
        std::size_t whole;   // bytes of the block
        std::size_t body;    // offset of the body in the file
        std::size_t length;  // bytes of the body
    };
    struct Interface {
        std::uint32_t link_type;
        std::uint32_t snap_length;
        std::uint8_t resolution;  // if_tsresol: 10^-n s, or 2^-n s with the top bit set
        std::int64_t offset_s;    // if_tsoffset
    };

    bool read_block(Block& block) {
        const std::size_t left = file_.size() - offset_;
        if (left < frame_of_block) return stop(left == 0 ? FileEnd::whole : FileEnd::truncated);
        block.type = load<std::uint32_t>(file_, offset_, big_endian_);
        if (block.type == section_block && !start_section()) return stop(FileEnd::broken);
        const auto whole = load<std::uint32_t>(file_, offset_ + 4, big_endian_);
        if (whole < (block.type == section_block ? 28 : frame_of_block) || whole % 4 != 0 ||
            whole > longest_block)
            return stop(FileEnd::broken);
        if (whole > left) return stop(FileEnd::truncated);
        if (load<std::uint32_t>(file_, offset_ + whole - 4, big_endian_) != whole)
            return stop(FileEnd::broken);
        block.whole = whole;
        block.body = offset_ + 8;
        block.length = whole - frame_of_block;
        return true;
    }

    // The type of a section block reads the same in both orders; the word behind its length tells which it
    // is.
    bool start_section() {
        const auto magic = load<std::uint32_t>(file_, offset_ + 8, false);
        big_endian_ = magic != byte_order_magic;
        interfaces_.clear();
        return magic == byte_order_magic || magic == __builtin_bswap32(byte_order_magic);
    }

    bool add_interface(const Block& block) {
        if (block.length < 8) return false;
        Interface added{load<std::uint16_t>(file_, block.body, big_endian_),
                        load<std::uint32_t>(file_, block.body + 4, big_endian_), 6, 0};
        std::size_t at = 8;
        while (block.length - at >= 4) {
            const auto code = load<std::uint16_t>(file_, block.body + at, big_endian_);
            const auto length = load<std::uint16_t>(file_, block.body + at + 2, big_endian_);
            at += 4;
            if (code == 0 || length > block.length - at) break;
            if (code == option_tsresol && length == 1) added.resolution = file_[block.body + at];
            if (code == option_tsoffset && length == 8) {
                added.offset_s =
                    static_cast<std::int64_t>(load<std::uint64_t>(file_, block.body + at, big_endian_));
            }
            at += std::min<std::size_t>((length + 3u) & ~3u, block.length - at);
        }
        interfaces_.push_back(added);
        return true;
    }

    // False when the block contradicts itself; `found` when it holds a packet.
    bool read_body(const Block& block, Frame& out, bool& found) {
        return block.type == interface_block ? add_interface(block) : read_packet(block, out, found);
    }

    bool read_packet(const Block& block, Frame& out, bool& found) {
        const auto word = [&](std::size_t at) {
            return load<std::uint32_t>(file_, block.body + at, big_endian_);
        };
        std::size_t data, interface;
        if (block.type == simple_packet_block) {
            if (block.length < 4 || interfaces_.empty()) return false;
            const auto snap = interfaces_[0].snap_length;
            out.original_length = word(0);
            out.length = snap == 0 ? out.original_length : std::min(out.original_length, snap);
            data = 4;
            interface = 0;  // and no time of its own: that of the packet before it
        } else if (block.type == enhanced_packet_block || block.type == obsolete_packet_block) {
            if (block.length < 20) return false;
            interface = block.type == enhanced_packet_block
                            ? word(0)
                            : load<std::uint16_t>(file_, block.body, big_endian_);
            if (interface >= interfaces_.size()) return false;
            ts_ns_ = to_ns(std::uint64_t{word(4)} << 32 | word(8), interfaces_[interface]);
            out.length = word(12);
            out.original_length = word(16);
            data = 20;
        } else {
            return true;
        }
        if (out.length > block.length - data) return false;
        out.data = file_.data() + block.body + data;
        out.link_type = interfaces_[interface].link_type;
        out.ts_ns = ts_ns_;
        found = true;
        return true;
    }

    static std::int64_t to_ns(std::uint64_t units, const Interface& interface) {
        unsigned __int128 ns = static_cast<unsigned __int128>(units) * 1'000'000'000u;
        const unsigned exponent = interface.resolution & 0x7Fu;
        if (interface.resolution & 0x80u) {
            ns >>= exponent;
        } else {
            for (unsigned i = 0; i < exponent && ns != 0; ++i) ns /= 10u;
        }
        const auto total =
            static_cast<__int128>(ns) + static_cast<__int128>(interface.offset_s) * 1'000'000'000;
        // The year 2116: room for a clock that goes on from there.
        constexpr __int128 highest = std::numeric_limits<std::int64_t>::max() / 2;
        return static_cast<std::int64_t>(std::clamp<__int128>(total, 0, highest));
    }

    bool stop(FileEnd why) {
        end_ = why;
        return false;
    }

    FileBytes file_;
    std::size_t offset_ = 0;
    std::vector<Interface> interfaces_;
    std::int64_t ts_ns_ = 0;
    bool big_endian_ = false;
    FileEnd end_ = FileEnd::none;
};

}  // namespace fh::receive
