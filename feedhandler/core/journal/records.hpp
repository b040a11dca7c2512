// The records of a journal's segments, from bytes in pieces of any size.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <vector>

#include "frame/ethernet.hpp"
#include "journal/frame.hpp"
#include "journal/segment.hpp"
#include "message.hpp"

namespace fh::journal {

class RecordReader {
  public:
    // The next bytes are the start of a segment; what is left of the one before is no whole record.
    void begin_segment() {
        rest_.clear();
        header_ = false;
    }

    // Calls on_datagram(const Datagram&) for each datagram that has become whole and is as it was written;
    // its line is as the journal tells it, from max_lines on a re-request server's. Throws
    // std::invalid_argument: these are no segments.
    template <class OnDatagram>
    void read(std::span<const std::uint8_t> bytes, OnDatagram&& on_datagram) {
        rest_.insert(rest_.end(), bytes.begin(), bytes.end());
        std::size_t at = 0;
        if (!header_) {
            if (rest_.size() < pcap_header) return;
            std::uint8_t expected[pcap_header];
            put_pcap_header(expected);
            if (std::memcmp(rest_.data(), expected, pcap_header) != 0)
                throw std::invalid_argument("not a segment of a journal");
            header_ = true;
            at = pcap_header;
        }
        while (rest_.size() - at >= pcap_record) {
            std::uint32_t words[4];
            std::memcpy(words, &rest_[at], sizeof words);
            if (words[2] > longest_record)
                throw std::invalid_argument("damaged: a record of impossible length");
            if (rest_.size() - at - pcap_record < words[2]) break;
            on_frame(&rest_[at], words[2], std::int64_t{words[0]} * 1'000'000'000 + words[1], on_datagram);
            at += pcap_record + words[2];
        }
        rest_.erase(rest_.begin(), rest_.begin() + static_cast<std::ptrdiff_t>(at));
    }

  private:
    template <class OnDatagram>
    static void on_frame(const std::uint8_t* record, std::size_t length, std::int64_t ts_ns,
                         OnDatagram&& on_datagram) {
        const std::uint8_t* const frame = record + pcap_record;
        if (!is_whole_frame(record, frame, length)) return;  // a hole is repaired, a wrong message is not
        const auto udp = frame::parse_frame(frame::LinkType::ethernet, frame, length);
        if (udp.refusal != frame::Refusal::none) return;
        on_datagram(Datagram{udp.payload, static_cast<std::uint32_t>(udp.length), frame[11],
                             timestamp_kind(frame), ts_ns});
    }

    std::vector<std::uint8_t> rest_;
    bool header_ = false;
};

}  // namespace fh::journal
