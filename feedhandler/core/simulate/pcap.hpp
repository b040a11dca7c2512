// Packets as a nanosecond pcap file: Ethernet, IPv4, UDP around each, once per line.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "frame/byte_order.hpp"
#include "frame/moldudp64.hpp"
#include "simulate/exchange.hpp"
#include "simulate/packer.hpp"

namespace fh::simulate {

struct PcapLine {
    std::uint32_t group;  // IPv4, host byte order
    std::uint16_t port;
};

class PcapEncoder {
  public:
    static constexpr std::size_t frame_header = 14 + 20 + 8;  // bytes

    // `midnight_ns`: UTC of the trading day's midnight at the exchange. Each line brings a packet `skew_ns`
    // after the one before.
    PcapEncoder(Exchange& exchange, std::string session, std::vector<PcapLine> lines,
                std::int64_t midnight_ns, std::int64_t skew_ns)
        : packer_(exchange, std::move(session)),
          lines_(std::move(lines)),
          midnight_ns_(midnight_ns),
          skew_ns_(skew_ns) {
        append(std::array<std::uint32_t, 6>{0xA1B23C4D, 0x0004'0002, 0, 0, 65535,
                                            1});  // nanoseconds, version 2.4, Ethernet
    }

    // Some more of the file, about `bytes`; empty: it is complete.
    std::span<const std::uint8_t> next(std::size_t bytes) {
        if (taken_) file_.clear();
        taken_ = true;
        while (!over_ && file_.size() < bytes) {
            Packet packet;
            if (packer_.next(payload_.data(), packet)) {
                last_ns_ = packet.timestamp_ns;
                put(packet.timestamp_ns, packet.length);
            } else {
                end_session();
            }
        }
        return file_;
    }

    std::uint64_t packets() const { return packets_; }  // of one line

  private:
    // Three times, as an exchange repeats it in place of heartbeats.
    void end_session() {
        frame::encode_mold_header(payload_.data(), packer_.session().data(), packer_.next_sequence(),
                                  frame::mold_end_of_session);
        for (std::uint64_t i = 1; i <= 3; ++i) put(last_ns_ + i * second_ns, frame::mold_header_bytes);
        over_ = true;
    }

    void put(std::uint64_t timestamp_ns, std::uint32_t length) {
        ++packets_;
        std::int64_t ns = midnight_ns_ + static_cast<std::int64_t>(timestamp_ns);
        for (const PcapLine& line : lines_) {
            const auto size = static_cast<std::uint32_t>(frame_header) + length;
            append(std::array<std::uint32_t, 4>{static_cast<std::uint32_t>(ns / 1'000'000'000),
                                                static_cast<std::uint32_t>(ns % 1'000'000'000), size, size});
            append(headers(line, length));
            file_.insert(file_.end(), payload_.begin(), payload_.begin() + length);
            ns += skew_ns_;
        }
    }

    std::array<std::uint8_t, frame_header> headers(const PcapLine& line, std::uint32_t length) const {
        std::array<std::uint8_t, frame_header> h{};
        frame::store_be16(&h[0], 0x0100);  // the group's Ethernet address: 01:00:5e and its lower 23 bits
        frame::store_be32(&h[2], 0x5E00'0000u | (line.group & 0x7F'FFFF));
        h[6] = 0x02;
        h[11] = 0x01;
        frame::store_be16(&h[12], 0x0800);
        h[14] = 0x45;
        frame::store_be16(&h[16], static_cast<std::uint16_t>(28 + length));
        frame::store_be16(&h[20], 0x4000);  // not to be fragmented
        h[22] = 1;                          // time to live
        h[23] = 17;
        frame::store_be32(&h[26], 0xC0A8'0001);  // 192.168.0.1
        frame::store_be32(&h[30], line.group);
        frame::store_be16(&h[24], checksum(&h[14]));
        frame::store_be16(&h[34], line.port);
        frame::store_be16(&h[36], line.port);
        frame::store_be16(&h[38], static_cast<std::uint16_t>(8 + length));  // UDP checksum 0: none
        return h;
    }

    static std::uint16_t checksum(const std::uint8_t* ip_header) {
        std::uint32_t sum = 0;
        for (std::size_t i = 0; i < 20; i += 2) sum += frame::load_be16(ip_header + i);
        sum = (sum >> 16) + (sum & 0xFFFF);
        return static_cast<std::uint16_t>(~(sum + (sum >> 16)));
    }

    template <class Array>
    void append(const Array& values) {
        file_.resize(file_.size() + sizeof values);
        std::memcpy(file_.data() + file_.size() - sizeof values, values.data(), sizeof values);
    }

    Packer<Exchange> packer_;
    std::vector<PcapLine> lines_;
    std::int64_t midnight_ns_, skew_ns_;
    std::vector<std::uint8_t> file_;
    std::array<std::uint8_t, max_payload> payload_;
    std::uint64_t packets_ = 0, last_ns_ = 0;
    bool taken_ = false, over_ = false;
};

}  // namespace fh::simulate
