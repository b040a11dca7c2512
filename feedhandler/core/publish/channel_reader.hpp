// A channel as its consumers see it: read-only maps of the three files, and whether somebody still writes
// them.
#pragma once

#include <linux/futex.h>
#include <sys/stat.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../book/table.hpp"
#include "layout.hpp"
#include "mapping.hpp"
#include "ring_reader.hpp"
#include "words.hpp"

namespace fh::publish {

inline constexpr std::int64_t heartbeat_timeout_ns = 1'000'000'000;  // older: the daemon hangs or is stopped

inline std::int64_t monotonic_now_ns() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

class ChannelReader {
  public:
    // `directory`: RUNTIME_DIR/NAME. Throws ChannelError when the files are not there, not ours, or of
    // another layout.
    explicit ChannelReader(const std::string& directory) : directory_(directory) {
        // A daemon that starts renames ring, books, channel, in this order: try again when we came in
        // between.
        for (int attempt = 0; !open_files(); ++attempt)
            if (attempt == 1000) throw ChannelError(directory + ": ring and channel are of different starts");
        had_writer_ = is_write_locked(channel_.fd());
    }

    // Is there a daemon? One load: the kernel marks the mutex when its owner dies, before it tears the memory
    // down. Only when the heart has not beaten for a second is the lock asked too: whatever ended without its
    // mark.
    bool alive(std::int64_t monotonic_ns = monotonic_now_ns()) const {
        const auto* word = reinterpret_cast<const std::uint32_t*>(&page_->owner);
        const std::uint32_t owner = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        if ((owner & FUTEX_OWNER_DIED) != 0 || (owner & FUTEX_TID_MASK) == 0 || !had_writer_) return false;
        return beats(monotonic_ns) || is_write_locked(channel_.fd());
    }

    // 0..4 as FeedState, or state_dead. A daemon that lives but has not beaten for a second: STALE.
    std::uint8_t state(std::int64_t monotonic_ns = monotonic_now_ns()) const {
        const FeedState state = word_state(state_word());
        if (!alive(monotonic_ns)) return state_dead;
        return static_cast<std::uint8_t>(beats(monotonic_ns) ? state : FeedState::stale);
    }

    std::uint64_t state_word() const { return page_->state.load(std::memory_order_acquire); }
    std::uint64_t next_sequence() const { return page_->next_sequence.load(std::memory_order_acquire); }
    std::uint64_t progress() const { return page_->progress.load(std::memory_order_relaxed); }
    std::int64_t heartbeat_ns() const { return page_->heartbeat_ns.load(std::memory_order_acquire); }
    std::uint32_t trading_day() const {  // yyyymmdd; a session that starts may change it
        return __atomic_load_n(&page_->trading_day, __ATOMIC_RELAXED);
    }
    const ChannelPage& page() const { return *page_; }  // for what is written once
    // nullptr when there is no table (yet) in the file.
    const std::byte* books() const {
        if (books_.size() < book::books_file_size) return nullptr;
        const auto* table = reinterpret_cast<const book::TableHeader*>(books_.data());
        const bool whole =
            table->magic.load(std::memory_order_acquire) == books_magic && table->version == layout_version;
        return whole ? books_.data() : nullptr;
    }
    const std::byte* ring() const { return ring_.data(); }
    const std::string& directory() const { return directory_; }

    // Has a daemon put new files in place of these? A system call: ask only when the channel is dead.
    bool replaced() const { return inode(directory_ + "/channel") != inode_; }

    // The newest whole copy; false only while the writer overtakes us again and again.
    bool read_counters(CounterSlot& out) const {
        for (int attempt = 0; attempt < 1000; ++attempt) {
            const std::uint64_t version = page_->counters_version.load(std::memory_order_acquire);
            load_words(&out, &page_->counters[version % 2], sizeof out);
            std::atomic_thread_fence(std::memory_order_acquire);
            if (page_->counters_version.load(std::memory_order_relaxed) == version) return true;
        }
        return false;
    }

    // What the hops of sampled packets have taken so far. Of a writer that died while it added to them: as it
    // left them.
    void read_latency(latency::Hops& out) const {
        const latency::LatencyPage& page = page_->latency;
        for (int attempt = 0; attempt < 1000; ++attempt) {
            const std::uint64_t version = page.version.load(std::memory_order_acquire);
            load_words(&out, &page.hops, sizeof out);
            std::atomic_thread_fence(std::memory_order_acquire);
            if (version % 2 == 0 && page.version.load(std::memory_order_relaxed) == version) return;
        }
    }

    // The newest gap_history holes, oldest first. An entry that the writer died in is left out.
    std::vector<GapRecord> read_gaps() const {
        const std::uint64_t end = page_->gap_count.load(std::memory_order_acquire);
        std::vector<GapRecord> gaps;
        for (std::uint64_t i = end > gap_history ? end - gap_history : 0; i < end; ++i) {
            GapRecord gap;
            if (read_gap(page_->gaps[i % gap_history], gap)) gaps.push_back(gap);
        }
        return gaps;
    }

    std::uint64_t gap_count() const { return page_->gap_count.load(std::memory_order_acquire); }

  private:
    bool beats(std::int64_t monotonic_ns) const {
        return monotonic_ns - page_->heartbeat_ns.load(std::memory_order_acquire) <= heartbeat_timeout_ns;
    }

    static ino_t inode(const std::string& path) {
        struct stat status {};
        return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
    }

    bool open_files() {
        channel_ = Mapping::open(directory_ + "/channel");
        ring_ = Mapping::open(directory_ + "/ring");
        books_ = Mapping::open(directory_ + "/books");
        if (channel_.size() < sizeof(ChannelPage)) throw ChannelError(directory_ + "/channel: too short");
        page_ = reinterpret_cast<const ChannelPage*>(channel_.data());
        if (page_->magic.load(std::memory_order_acquire) != channel_magic ||
            page_->version != layout_version || page_->line_count > max_lines)
            throw ChannelError(directory_ + "/channel: not a channel of this version of feedhandler");
        const auto* ring = reinterpret_cast<const RingHeader*>(ring_.data());
        if (ring_.size() < sizeof(RingHeader) || ring->magic.load(std::memory_order_acquire) != ring_magic ||
            ring->version != layout_version || !is_ring_capacity(ring->capacity) ||
            ring_.size() != ring_file_size(ring->capacity))
            throw ChannelError(directory_ + "/ring: not a ring of this version of feedhandler");
        struct stat status {};
        if (::fstat(channel_.fd(), &status) != 0) fail(directory_ + "/channel", "cannot stat");
        inode_ = status.st_ino;
        return ring->epoch == page_->epoch && !replaced();
    }

    static bool read_gap(const GapSlot& slot, GapRecord& out) {
        for (int attempt = 0; attempt < 1000; ++attempt) {
            const std::uint64_t version = slot.version.load(std::memory_order_acquire);
            if (version % 2 != 0) continue;
            load_words(&out, &slot.record, sizeof out);
            std::atomic_thread_fence(std::memory_order_acquire);
            if (slot.version.load(std::memory_order_relaxed) == version) return true;
        }
        return false;
    }

    std::string directory_;
    Mapping channel_;
    Mapping ring_;
    Mapping books_;
    const ChannelPage* page_ = nullptr;
    ino_t inode_ = 0;
    bool had_writer_ = false;
};

}  // namespace fh::publish
