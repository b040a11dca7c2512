// Owns a channel's folder: makes its files, keeps state, counters and gap history in them. Used by the daemon
// only.
//
// A start makes new files and renames them into place; files that readers of a former start still map are
// never cut or reused. `lock` (never renamed) excludes a second daemon. A write lock on `channel` tells a
// reader who attaches that the file belongs to a living process and not to a machine that crashed. After that
// the robust mutex tells.
#pragma once

#include <linux/futex.h>
#include <pthread.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../event.hpp"
#include "counters.hpp"
#include "layout.hpp"
#include "mapping.hpp"
#include "new_files.hpp"
#include "ring_writer.hpp"
#include "words.hpp"

namespace fh::publish {

struct ChannelSettings {
    std::string directory;  // RUNTIME_DIR/NAME; made with mode 0750 (missing parents 0700)
    std::string channel;
    std::string dataset;
    std::uint64_t epoch = 0;        // UTC ns of this start
    std::uint32_t schema_mask = 0;  // dbn::schema_bit of what is published; events always are
    std::uint32_t depth = 10;
    std::uint32_t publisher_id = 0;
    std::int64_t midnight_ns = 0;
    std::uint32_t trading_day = 0;
    std::uint64_t ring_bytes = 64u << 20;  // a power of two, at least 4 * ring_step
    std::size_t books_bytes = 4096;
    std::vector<std::string> lines;
    std::vector<std::string> servers;
};

class ChannelWriter {
  public:
    explicit ChannelWriter(const ChannelSettings& settings)
        : directory_(settings.directory),
          lock_(take_folder(settings)),
          // the channel last: it names the epoch
          files_(directory_, {"ring", "books", "channel"}),
          channel_(files_.create("channel", sizeof(ChannelPage))),
          ring_file_(files_.create("ring", ring_file_size(checked(settings.ring_bytes)))),
          books_(files_.create("books", settings.books_bytes)),
          page_(new (channel_.data()) ChannelPage{}),
          ring_(ring_file_.data(), settings.ring_bytes, settings.epoch, settings.schema_mask) {
        fill(settings);
    }

    ChannelWriter(const ChannelWriter&) = delete;
    ChannelWriter& operator=(const ChannelWriter&) = delete;

    ~ChannelWriter() {
        if (owned_) abandon();
    }

    // On the receive thread, before the first packet: from here on the channel lives as long as this thread
    // does.
    void own(std::int64_t monotonic_ns) {
        init_owner();
        if (const int error = pthread_mutex_lock(&page_->owner))
            fail(directory_, "cannot take the owner's mutex", error);
        owned_ = true;
        heartbeat(monotonic_ns);
        files_.put_in_place();
    }

    // On the same thread, at a clean stop: readers see DEAD.
    void release() {
        if (owned_ && pthread_mutex_unlock(&page_->owner) == 0) owned_ = false;
    }

    RingWriter& ring() { return ring_; }
    latency::LatencyPage& latency() { return page_->latency; }
    std::span<std::byte> books() { return {books_.data(), books_.size()}; }
    FeedState state() const { return word_state(page_->state.load(std::memory_order_relaxed)); }

    // Visible before any record that follows it.
    void set_state(FeedState state) {
        const std::uint64_t word = page_->state.load(std::memory_order_relaxed);
        if (word_state(word) != state)
            page_->state.store(((word >> 8) + 1) << 8 | static_cast<std::uint64_t>(state),
                               std::memory_order_release);
        std::atomic_thread_fence(
            std::memory_order_release);  // before the plain stores into books and ring that follow
        ring_.set_state(state);
    }

    // The state that an event leads to is visible with it: a hole is marked before it is told.
    void publish(const Event& event, std::uint32_t sequence_low) {
        set_state(event.state);
        ring_.publish(event, sequence_low);
    }

    void set_next_sequence(std::uint64_t next) {
        page_->next_sequence.store(next, std::memory_order_release);
    }

    // A daemon may live through several; readers may look while it changes.
    void set_trading_day(std::int64_t midnight_ns, std::uint32_t trading_day) {
        std::atomic_ref(page_->midnight_ns).store(midnight_ns, std::memory_order_relaxed);
        std::atomic_ref(page_->trading_day).store(trading_day, std::memory_order_relaxed);
    }

    // At least every millisecond; a reader that sees none for a second reports STALE.
    void heartbeat(std::int64_t monotonic_ns) {
        page_->heartbeat_ns.store(monotonic_ns, std::memory_order_release);
        page_->progress.store(page_->progress.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }

    std::uint64_t progress() const { return page_->progress.load(std::memory_order_relaxed); }

    // Counters::records is filled in here: the ring knows them.
    void put_counters(const Counters& counters, std::string_view session, std::int64_t ts_ns) {
        CounterSlot slot{};
        session.copy(slot.session, sizeof slot.session - 1);
        slot.ts_ns = ts_ns;
        slot.next_sequence = page_->next_sequence.load(std::memory_order_relaxed);
        slot.counters = counters;
        slot.counters.records = ring_.records();
        const std::uint64_t next = page_->counters_version.load(std::memory_order_relaxed) + 1;
        std::atomic_thread_fence(std::memory_order_release);
        store_words(&page_->counters[next % 2], &slot, sizeof slot);
        page_->counters_version.store(next, std::memory_order_release);
    }

    // Returns the entry's index, by which it is updated while the hole closes.
    std::uint64_t add_gap(const GapRecord& gap) {
        const std::uint64_t index = page_->gap_count.load(std::memory_order_relaxed);
        store_gap(index, gap);
        page_->gap_count.store(index + 1, std::memory_order_release);
        return index;
    }

    void update_gap(std::uint64_t index, const GapRecord& gap) {
        if (index + gap_history >= page_->gap_count.load(std::memory_order_relaxed)) store_gap(index, gap);
    }

  private:
    static FileDescriptor take_folder(const ChannelSettings& settings) {
        const std::filesystem::path folder(settings.directory);
        make_folder(folder.parent_path(), 0700);
        make_folder(folder, 0750);
        const std::string path = settings.directory + "/lock";
        FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        if (lock.get() < 0) fail(path, "cannot open");
        if (!try_lock(lock.get(), F_WRLCK)) throw ChannelError(path + ": another daemon runs this channel");
        // Consumers hold read locks in this one, so that `stat` can count them; it outlives the epochs.
        const std::string consumers = settings.directory + "/consumers";
        const FileDescriptor file(::open(consumers.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0640));
        if (file.get() < 0) fail(consumers, "cannot create");
        return lock;
    }

    static void make_folder(const std::filesystem::path& folder, mode_t mode) {
        if (folder.empty() || std::filesystem::exists(folder)) return;
        make_folder(folder.parent_path(), 0700);
        if (::mkdir(folder.c_str(), mode) != 0 && errno != EEXIST) fail(folder, "cannot make the folder");
    }

    static std::uint64_t checked(std::uint64_t ring_bytes) {
        if (!is_ring_capacity(ring_bytes))
            throw ChannelError("ring: " + std::to_string(ring_bytes) + " bytes: a power of two from " +
                               std::to_string(4 * ring_step) + " on is allowed");
        return ring_bytes;
    }

    void fill(const ChannelSettings& settings) {
        if (!try_lock(channel_.fd(), F_WRLCK)) fail(files_.made("channel"), "cannot lock");
        page_->version = layout_version;
        page_->line_count = static_cast<std::uint32_t>(std::min(settings.lines.size(), max_lines));
        page_->epoch = settings.epoch;
        page_->daemon_pid = static_cast<std::uint32_t>(::getpid());
        page_->schema_mask = settings.schema_mask;
        page_->depth = settings.depth;
        page_->publisher_id = settings.publisher_id;
        page_->midnight_ns = settings.midnight_ns;
        page_->trading_day = settings.trading_day;
        settings.channel.copy(page_->channel, sizeof page_->channel - 1);
        settings.dataset.copy(page_->dataset, sizeof page_->dataset - 1);
        for (std::size_t i = 0; i < page_->line_count; ++i)
            settings.lines[i].copy(page_->line_names[i], sizeof page_->line_names[i] - 1);
        for (std::size_t i = 0; i < std::min(settings.servers.size(), max_servers); ++i)
            settings.servers[i].copy(page_->server_names[i], sizeof page_->server_names[i] - 1);
        page_->counters[0].ts_ns = static_cast<std::int64_t>(settings.epoch);
        page_->magic.store(channel_magic, std::memory_order_release);
    }

    // Destroyed without release(), perhaps on another thread than the owner's: mark what the kernel could not
    // find once the memory is unmapped, and leave it mapped, for the owner's list of robust mutexes runs
    // through it.
    void abandon() {
        release();
        if (!owned_) return;
        __atomic_fetch_or(reinterpret_cast<std::uint32_t*>(&page_->owner), FUTEX_OWNER_DIED,
                          __ATOMIC_RELEASE);
        new Mapping(std::move(channel_));
    }

    void init_owner() {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&page_->owner, &attributes);
        pthread_mutexattr_destroy(&attributes);
    }

    void store_gap(std::uint64_t index, const GapRecord& gap) {
        GapSlot& slot = page_->gaps[index % gap_history];
        const std::uint64_t version = slot.version.load(std::memory_order_relaxed);
        slot.version.store(version + 1, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_release);
        store_words(&slot.record, &gap, sizeof gap);
        slot.version.store(version + 2, std::memory_order_release);
    }

    std::string directory_;
    FileDescriptor lock_;
    NewFiles files_;
    Mapping channel_;
    Mapping ring_file_;
    Mapping books_;
    ChannelPage* page_;
    RingWriter ring_;
    bool owned_ = false;
};

}  // namespace fh::publish
