// A capture as input: the UDP datagrams of the chosen groups, each on its line.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "frame/ethernet.hpp"
#include "frame/moldudp64.hpp"
#include "journal/frame.hpp"
#include "receive/capture.hpp"
#include "replay/input.hpp"

namespace fh::replay {

struct Group {
    std::uint32_t address;  // host order
    std::uint16_t port;
    bool operator==(const Group&) const = default;
};

inline bool is_of_journal(const receive::Frame& captured) {
    return captured.link_type == static_cast<std::uint32_t>(frame::LinkType::ethernet) &&
           journal::is_journal_frame(captured.data, captured.length);
}
// Of a journal, the reply of a re-request server.
inline bool is_reply(const receive::Frame& captured) {
    return is_of_journal(captured) && journal::is_reply(captured.data);
}
// Who captures elsewhere does not say how he takes the time.
inline TimestampKind kind_of(const receive::Frame& captured) {
    return is_of_journal(captured) ? journal::timestamp_kind(captured.data) : TimestampKind::kernel;
}

inline frame::UdpDatagram datagram_of(const receive::Frame& captured) {
    return frame::parse_frame(static_cast<frame::LinkType>(captured.link_type), captured.data,
                              captured.length);
}

class CaptureInput final : public Input {
  public:
    // The first group is line 0, and so on.
    CaptureInput(receive::FileBytes file, std::vector<Group> groups, Period period = {})
        : file_(file), groups_(std::move(groups)), period_(period), reader_(file) {}

    bool next(InputPacket& out) override {
        receive::Frame frame;
        while (reader_.next(frame)) {
            if (!period_.holds(frame.ts_ns)) continue;
            const auto udp = datagram_of(frame);
            cut_ += udp.refusal == frame::Refusal::truncated && frame.length < frame.original_length;
            fragments_ += udp.refusal == frame::Refusal::fragment;
            if (udp.refusal != frame::Refusal::none) continue;
            const Group group{udp.destination, udp.destination_port};
            const auto line = std::find(groups_.begin(), groups_.end(), group) - groups_.begin();
            const bool reply = line == std::ssize(groups_) && replies_ && is_reply(frame);
            if (line == std::ssize(groups_) && !reply) continue;
            out = InputPacket{udp.payload,
                              static_cast<std::uint32_t>(udp.length),
                              reply ? reply_line : static_cast<std::uint16_t>(line),
                              kind_of(frame),
                              frame.ts_ns,
                              udp.payload + std::min<std::size_t>(udp.length, frame::mold_header_bytes)};
            return true;
        }
        return false;
    }

    void rewind() override {
        const bool replies = replies_;
        *this = CaptureInput(file_, std::move(groups_), period_);
        replies_ = replies;
    }
    void offer_replies(bool wanted) override { replies_ = wanted; }
    InputEnd end() const override { return {reader_.end(), reader_.offset(), 0, cut_, fragments_}; }

  private:
    receive::FileBytes file_;
    std::vector<Group> groups_;
    Period period_;
    bool replies_ = false;
    receive::Capture reader_;
    std::uint64_t cut_ = 0;
    std::uint64_t fragments_ = 0;
};

// What a capture holds for each destination of UDP, in order of appearance.
struct GroupSeen {
    Group group;
    std::uint64_t packets;
    std::uint64_t mold;  // of them, well-formed MoldUDP64
    bool multicast() const { return group.address >> 28 == 14; }
};

class GroupFinder {
  public:
    explicit GroupFinder(receive::FileBytes file) : reader_(file) {}

    // False at the end of the capture.
    bool step(std::uint64_t frames) {
        receive::Frame frame;
        for (std::uint64_t i = 0; i < frames; ++i) {
            if (!reader_.next(frame)) return false;
            if (const std::int64_t hour = frame.ts_ns / hour_ns; hour != hour_) hours_.insert(hour_ = hour);
            const auto udp = datagram_of(frame);
            unknown_link_ += udp.refusal == frame::Refusal::link_type;
            if (udp.refusal == frame::Refusal::none) add(udp);
        }
        return true;
    }

    const std::vector<GroupSeen>& groups() const { return groups_; }
    std::uint64_t unknown_link() const { return unknown_link_; }
    const std::set<std::int64_t>& hours() const { return hours_; }  // since 1970, UTC, that have frames

  private:
    void add(const frame::UdpDatagram& udp) {
        const Group group{udp.destination, udp.destination_port};
        auto seen = std::find_if(groups_.begin(), groups_.end(),
                                 [&](const GroupSeen& g) { return g.group == group; });
        if (seen == groups_.end()) {
            if (groups_.size() == most_groups) return;
            seen = groups_.insert(groups_.end(), {group, 0, 0});
        }
        ++seen->packets;
        if (seen->mold == enough) return;
        seen->mold +=
            frame::parse_mold(udp.payload, udp.length, messages_.get()).kind != frame::MoldKind::malformed;
    }

    static constexpr std::uint64_t enough = 16;  // packets, to tell a MoldUDP64 group from another
    static constexpr std::size_t most_groups = 4096;
    static constexpr std::int64_t hour_ns = 3'600'000'000'000;
    receive::Capture reader_;
    std::vector<GroupSeen> groups_;
    std::unique_ptr<Message[]> messages_ =
        std::make_unique_for_overwrite<Message[]>(frame::mold_max_messages);
    std::uint64_t unknown_link_ = 0;
    std::int64_t hour_ = -1;
    std::set<std::int64_t> hours_;
};

}  // namespace fh::replay
