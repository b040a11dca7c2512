// From the packet ring into segments: the work of the journal process, in batches.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "journal/page.hpp"
#include "journal/segment.hpp"
#include "publish/mapping.hpp"
#include "publish/packet_ring_reader.hpp"

namespace fh::journal {

class Journal {
  public:
    static constexpr int most_copies = 64;  // in one pump(): some milliseconds of work

    // `directory`: the channel's folder. Goes on where an earlier process stopped. Throws ChannelError.
    explicit Journal(const std::string& directory)
        : packets_(publish::Mapping::open(directory + "/packets")),
          page_file_(publish::Mapping::open(directory + "/journal", true)),
          page_(*reinterpret_cast<JournalPage*>(checked_page(directory))),
          counters_(get(page_)),
          reader_(checked_packets(directory), counters_.position, counters_.passed),
          lost_before_(counters_.lost_packets) {
        page_.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
        set_state(JournalState::writing);
    }

    // Moves packets until there is none, or one waits for another segment, or enough was done. Returns how
    // many.
    std::uint64_t pump() {
        const std::uint64_t before = counters_.packets;
        waiting_ = false;
        for (int i = 0; i < most_copies && !waiting_ && reader_.available(); ++i)
            reader_.poll([this](const publish::PacketHeader& packet, const std::uint8_t* payload) {
                return take(packet, payload);
            });
        if (counters_.lost_packets != lost_before_ + reader_.lost()) put_position();
        return counters_.packets - before;
    }

    // The next packet finds no room, or is too late for the segment: close() and open() another.
    bool waiting() const { return waiting_; }
    std::int64_t waiting_ns() const { return waiting_ns_; }  // UTC, its time
    bool available() const { return reader_.available(); }

    // Packets received `longest_ns` after the first wait for the next one. Throws std::system_error.
    void open(const std::string& path, std::size_t bytes, std::int64_t longest_ns) {
        if (bytes < pcap_header + longest_record) bytes = pcap_header + longest_record;
        segment_ = std::make_unique<Segment>(path, bytes);
        longest_ns_ = longest_ns;
        ++counters_.segments;
        put(page_, counters_);
    }
    // Cuts the segment to its size and leaves it; one there must be. Throws std::system_error.
    void close() {
        const std::unique_ptr<Segment> segment = std::move(segment_);
        segment->finish();
    }
    const Segment* segment() const { return segment_.get(); }
    std::int64_t segment_first_ns() const { return first_ns_; }

    const JournalCounters& counters() const { return counters_; }
    void set_state(JournalState state) {
        if (state == JournalState::failed) page_.failures.fetch_add(1, std::memory_order_relaxed);
        page_.state.store(static_cast<std::uint32_t>(state), std::memory_order_relaxed);
    }

  private:
    bool take(const publish::PacketHeader& packet, const std::uint8_t* payload) {
        const std::int64_t ts = packet.ts_recv_ns;
        const bool fits = segment_ && (segment_->packets() == 0 || ts - first_ns_ < longest_ns_) &&
                          segment_->append(packet, payload, reader_.origins()[packet.line % origins]);
        if (!fits) {
            waiting_ = true;
            waiting_ns_ = ts;
            return false;
        }
        if (segment_->packets() == 1) first_ns_ = ts;
        ++counters_.packets;
        counters_.bytes += pcap_record + frame_headers + packet.payload;
        put_position();
        return true;
    }

    void put_position() {
        counters_.position = reader_.position();
        counters_.passed = reader_.passed();
        counters_.lost_packets = lost_before_ + reader_.lost();
        put(page_, counters_);
    }

    const std::byte* checked_packets(const std::string& directory) const {
        const auto* header = reinterpret_cast<const publish::PacketRingHeader*>(packets_.data());
        if (packets_.size() < sizeof *header || header->magic.load() != publish::packets_magic ||
            header->version != layout_version || !std::has_single_bit(header->capacity) ||
            header->capacity < publish::smallest_packet_ring ||
            packets_.size() != publish::packets_file_size(header->capacity))
            throw publish::ChannelError(directory + "/packets: not a packet ring of this version");
        if (header->epoch != page_.epoch)
            throw publish::ChannelError(directory + ": packets and journal are of different starts");
        return packets_.data();
    }
    std::byte* checked_page(const std::string& directory) {
        auto* page = reinterpret_cast<JournalPage*>(page_file_.data());
        if (page_file_.size() != sizeof(JournalPage) || page->magic.load() != journal_magic)
            throw publish::ChannelError(directory + "/journal: not a journal's page of this version");
        return page_file_.data();
    }

    static constexpr std::size_t origins = max_lines + max_servers;
    publish::Mapping packets_;
    publish::Mapping page_file_;
    JournalPage& page_;
    JournalCounters counters_;
    publish::PacketRingReader reader_;
    std::uint64_t lost_before_;  // by earlier processes
    std::unique_ptr<Segment> segment_;
    std::int64_t first_ns_ = 0;
    std::int64_t longest_ns_ = std::numeric_limits<std::int64_t>::max();
    std::int64_t waiting_ns_ = 0;
    bool waiting_ = false;
};

}  // namespace fh::journal
