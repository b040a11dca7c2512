// The daemon's side of a journal: the packet ring and the journal's page in the channel's folder.
#pragma once

#include <unistd.h>

#include <bit>
#include <new>
#include <string>

#include "journal/page.hpp"
#include "publish/mapping.hpp"
#include "publish/new_files.hpp"
#include "publish/packet_ring.hpp"

namespace fh::journal {

class JournalFiles {
  public:
    // Throws ChannelError. The files are new and not in their places until publish().
    JournalFiles(const std::string& directory, std::uint64_t ring_bytes, std::uint64_t epoch,
                 const publish::PacketOrigins& origins)
        : files_(directory, {"packets", "journal"}),
          packets_(files_.create("packets", publish::packets_file_size(checked(ring_bytes)))),
          page_(files_.create("journal", sizeof(JournalPage))),
          ring_(packets_.data(), ring_bytes, epoch, origins) {
        auto* page = new (page_.data()) JournalPage{};
        page->epoch = epoch;
        page->magic.store(journal_magic, std::memory_order_release);
    }
    JournalFiles(const JournalFiles&) = delete;
    JournalFiles& operator=(const JournalFiles&) = delete;

    // Puts both in place of those of an earlier start.
    void publish() { files_.put_in_place(); }

    // Of a channel without a journal: what an earlier start left would mislead.
    static void remove(const std::string& directory) {
        for (const char* name : {"/packets", "/journal"}) ::unlink((directory + name).c_str());
    }

    publish::PacketRingWriter& ring() { return ring_; }

  private:
    static std::uint64_t checked(std::uint64_t ring_bytes) {
        if (!std::has_single_bit(ring_bytes) || ring_bytes < publish::smallest_packet_ring)
            throw publish::ChannelError("packets: " + std::to_string(ring_bytes) +
                                        " bytes: a power of two from " +
                                        std::to_string(publish::smallest_packet_ring) + " on is allowed");
        return ring_bytes;
    }

    publish::NewFiles files_;
    publish::Mapping packets_;
    publish::Mapping page_;
    publish::PacketRingWriter ring_;
};

}  // namespace fh::journal
