// The live feed of one channel: owns every stage and the receive thread that runs them to completion, packet
// by packet.
#pragma once

#include <arpa/inet.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <future>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "book/table.hpp"
#include "event.hpp"
#include "journal/files.hpp"
#include "latency/meter.hpp"
#include "latency/metered.hpp"
#include "latency/tick_clock.hpp"
#include "message.hpp"
#include "pipeline.hpp"
#include "publish/channel_writer.hpp"
#include "publish/counters.hpp"
#include "receive/any_source.hpp"
#include "receive/clock_watch.hpp"
#include "receive/event_queue.hpp"
#include "receive/loop.hpp"
#include "receive/restart.hpp"
#include "receive/thread_setup.hpp"
#include "record/normalizer.hpp"
#include "sequence/settings.hpp"
#include "snapshot/loader.hpp"

namespace fh::receive {

struct TradingDay {
    std::int64_t midnight_ns;  // UTC ns of 00:00 exchange time
    std::uint32_t date;        // yyyymmdd
};

struct FeedSettings {
    std::vector<LineSettings> lines;
    std::vector<ServerSettings> servers;
    ReceiveSettings receive;
    ThreadSettings thread;
    std::uint32_t prefault_orders = 0;  // memory for so many live orders is taken at the start
    sequence::Settings sequence;
    publish::ChannelSettings channel;
    record::NormalizerSettings normalizer;
    // In order of time. A session that starts belongs to the last day that has begun: a daemon may live
    // through many. The calendar is worked out beforehand because the receive thread has no time zones.
    std::vector<TradingDay> trading_days;
    std::uint64_t journal_ring_bytes = 0;              // of the packets for the journal; 0 = there is none
    std::optional<snapshot::LoaderSettings> snapshot;  // where snapshots come from
    std::uint32_t latency_sample_every = 0;            // one packet in so many is measured; 0 = none
};

inline std::uint32_t host_address(const std::string& text) {
    in_addr address{};
    return ::inet_pton(AF_INET, text.c_str(), &address) == 1 ? ntohl(address.s_addr) : 0;
}

// What the journal knows of where packets come from.
inline publish::PacketOrigins origins_of(std::span<const LineSettings> lines,
                                         std::span<const ServerSettings> servers) {
    publish::PacketOrigins out{};
    for (std::size_t i = 0; i < std::min(lines.size(), max_lines); ++i)
        out[i] = {host_address(lines[i].group), host_address(lines[i].source), lines[i].port, {}};
    for (std::size_t i = 0; i < std::min(servers.size(), max_servers); ++i)
        out[first_server_line + i] = {host_address(servers[i].address), 0, servers[i].port, {}};
    return out;
}

// Construct, start() and stop() on one thread; everything else here runs on the receive thread unless it says
// otherwise.
class Feed {
  public:
    using Meter = latency::Meter<latency::TickClock>;
    using Normalizer = latency::Metered<record::Normalizer<publish::RingWriter>, publish::RingWriter, Meter>;

    // Not each turn: consumers read this cache line before they act, and each write takes it from them.
    static constexpr std::int64_t heartbeat_interval_ns = 200'000;
    static constexpr std::int64_t counters_interval_ns = 5'000'000;
    static constexpr std::int64_t kernel_stats_interval_ns = 100'000'000;  // these cost a system call a line
    static constexpr std::int64_t tick_check_interval_ns = 1'000'000'000;
    static constexpr std::int64_t lines_behind_ns =
        15'000'000'000;  // for them to reach a journal that is ahead

    // Joins the lines, makes the channel's files, takes all memory. Throws when any of it cannot be had.
    explicit Feed(const FeedSettings& settings)
        : directory_(settings.channel.directory),
          thread_settings_(settings.thread),
          prefault_orders_(settings.prefault_orders),
          spin_(settings.receive.spin),
          // What is touched stays in memory; what is only reserved takes none. Needs CAP_IPC_LOCK or a
          // generous limit.
          trading_days_(settings.trading_days),
          memory_locked_(mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0),
          clocks_(settings.receive.mode == "dpdk"),
          channel_(with_books(settings.channel)),
          journal_(journal_files(settings)),
          meter_(channel_.latency(), settings.latency_sample_every, latency::TickClock{}),
          normalizer_(meter_, channel_.ring(), channel_.books().data(), settings.normalizer),
          source_(open_source(settings.lines, settings.receive)),
          requests_(settings.servers),
          pipeline_(settings.sequence, counters_, normalizer_, *this),
          midnight_ns_(settings.normalizer.midnight_ns),
          day_ends_ns_(trading_days_.size() > 1 ? trading_days_[1].midnight_ns : sequence::never_ns) {
        if (settings.snapshot) loader_.emplace(*settings.snapshot);
    }
    Feed(const Feed&) = delete;
    Feed& operator=(const Feed&) = delete;
    ~Feed() {
        stop_.store(true);
        if (thread_.joinable()) thread_.join();
    }

    // Returns once the receive thread owns the channel and is about to poll; throws what kept it from that.
    void start() {
        std::promise<void> ready;
        std::promise<void> ended;
        std::future<void> started = ready.get_future();
        ended_ = ended.get_future();
        thread_ = std::thread([this, ready = std::move(ready), ended = std::move(ended)]() mutable {
            run(ready);
            ended.set_value();
        });
        started.get();
    }

    // False: the thread hangs. Then only the end of the process helps, for the destructor waits for it.
    bool stop(std::chrono::milliseconds timeout) {
        stop_.store(true);
        return !ended_.valid() || ended_.wait_for(timeout) == std::future_status::ready;
    }

    // Any thread.
    bool running() const { return running_.load(std::memory_order_acquire); }
    std::uint64_t progress() const { return channel_.progress(); }
    FeedState state() const { return channel_.state(); }
    bool memory_locked() const { return memory_locked_; }
    std::size_t prefaulted_bytes() const { return prefaulted_bytes_; }  // after start()
    EventQueue& events() { return events_; }
    std::string take_snapshot_failure() { return loader_ ? loader_->take_failure() : std::string{}; }
    Restart& restart() { return restart_; }
    std::string take_receive_log() {
        return std::visit(
            [](auto& source) {
                if constexpr (requires { source.take_log(); })
                    return source.take_log();
                else
                    return std::string{};
            },
            source_);
    }
    // What the supervisor has seen of the host's clocks; before start() too, else no time is trusted.
    void set_clock(const ClockCounters& seen, bool trusted) { clocks_.set(seen, trusted); }
    SourceStats granted(std::size_t line) const {  // before start() only
        return std::visit([&](const auto& source) { return source.stats(line); }, source_);
    }

    // ---- called by the loop

    std::size_t look_ahead(std::span<const Datagram> datagrams) {
        return pipeline_.arbiter().look_ahead(datagrams);
    }
    void on_poll(std::size_t datagrams) { meter_.dequeued(datagrams); }
    void on_datagram(const Datagram& datagram, std::int64_t now_ns) {
        now_ns_ = now_ns;
        const Datagram d = with_receive_time(datagram, now_ns, clocks_.trust());
        if (now_ns >= day_ends_ns_ && untouched()) [[unlikely]]
            set_trading_day(now_ns);
        if (d.line < first_server_line) [[likely]] {
            count_time(counters_.lines[d.line], d.timestamp_kind);
            meter_.next(d);
            if (journal_ != nullptr) journal_->ring().put(d);
            pipeline_.arbiter().on_packet(d.line, d.data, d.length, d.ts_recv_ns, d.timestamp_kind, now_ns);
        } else {
            const std::size_t server = d.line - first_server_line;
            const bool believed = pipeline_.arbiter().on_reply(server, d.data, d.length, d.ts_recv_ns,
                                                               d.timestamp_kind, now_ns);
            // What was not asked for would be taken for an answer by whoever reads the journal.
            if (journal_ != nullptr && believed) journal_->ring().put(d);
        }
    }
    void on_timer(std::int64_t now_ns) {
        now_ns_ = now_ns;
        pipeline_.arbiter().on_timer(now_ns);
    }
    std::int64_t next_deadline() const { return pipeline_.arbiter().next_deadline(); }
    void end_turn(std::int64_t now_ns, std::int64_t monotonic_ns) {
        if (const unsigned refused = requests_.take_refused(); refused != 0) [[unlikely]]
            tell_refused(refused, now_ns);
        if (snapshot_pending_) [[unlikely]]
            look_for_snapshot(now_ns);
        const std::uint64_t next = pipeline_.arbiter().next_sequence();
        if (next != next_sequence_ && !pipeline_.arbiter().restarting())  // then it is not known yet
            channel_.set_next_sequence(next_sequence_ = next);
        if (monotonic_ns >= heartbeat_due_ns_) [[unlikely]] {
            channel_.heartbeat(monotonic_ns);
            heartbeat_due_ns_ = monotonic_ns + heartbeat_interval_ns;
        }
        if (monotonic_ns >= counters_due_ns_) [[unlikely]]
            put_counters(now_ns, monotonic_ns);
    }

    // ---- called by the pipeline

    void on_event(const Event& event) {
        if (event.type == EventType::session_start) on_session_start(event);
        channel_.publish(event, static_cast<std::uint32_t>(pipeline_.arbiter().next_sequence()));
        events_.push(event);
        counters_due_ns_ = 0;  // counters and gap history follow an event at once
    }
    void send_request(std::size_t server, std::span<const std::uint8_t, 20> datagram) {
        requests_.send(server, datagram, now_ns_);
    }
    void start_snapshot(std::int64_t /*now_ns*/) {
        snapshot_pending_ = true;
        snapshot_told_ = false;
        if (pipeline_.arbiter().restarting())
            restart_.want(pipeline_.arbiter().session(), pipeline_.arbiter().next_sequence());
        else
            load_snapshot();
    }
    book::BookSet& snapshot_books() { return loading_ ? loader_->books() : restart_.image().books(); }

  private:
    static publish::ChannelSettings with_books(publish::ChannelSettings channel) {
        channel.books_bytes = book::books_file_size;
        return channel;
    }

    static std::unique_ptr<journal::JournalFiles> journal_files(const FeedSettings& settings) {
        if (settings.journal_ring_bytes == 0) return nullptr;
        return std::make_unique<journal::JournalFiles>(settings.channel.directory,
                                                       settings.journal_ring_bytes, settings.channel.epoch,
                                                       origins_of(settings.lines, settings.servers));
    }

    // Has the session no message yet? Its heartbeats may begin before its day does.
    bool untouched() const { return pipeline_.arbiter().known_sequence() == session_first_; }

    void on_session_start(const Event& event) {
        session_first_ = event.first;
        set_trading_day(event.ts_ns);
        if (!pipeline_.arbiter().restarting()) restart_.end();
    }

    void set_trading_day(std::int64_t now_ns) {
        auto later = std::ranges::upper_bound(trading_days_, now_ns, {}, &TradingDay::midnight_ns);
        if (later == trading_days_.begin()) ++later;  // the day configured is still to come
        const TradingDay& day = *std::prev(later);
        day_ends_ns_ = later == trading_days_.end() ? sequence::never_ns : later->midnight_ns;
        normalizer_.set_midnight(midnight_ns_ = day.midnight_ns);
        channel_.set_trading_day(day.midnight_ns, day.date);
    }

    void tell_refused(unsigned servers, std::int64_t now_ns) {
        now_ns_ = now_ns;
        for (std::size_t i = 0; i < requests_.server_count(); ++i)
            if ((servers >> i & 1) != 0) pipeline_.arbiter().on_refused(i, now_ns);
    }

    // The books are the loader's until they are spliced in or not wanted any more; then it may let them go.
    void look_for_snapshot(std::int64_t now_ns) {
        now_ns_ = now_ns;
        auto& arbiter = pipeline_.arbiter();
        if (!snapshot_told_) loading_ ? look_at_loader(now_ns) : look_at_restart(now_ns);
        if (arbiter.loading()) return;
        snapshot_pending_ = false;
        if (std::exchange(loading_, false)) loader_->release();
        restart_.end();
    }

    void load_snapshot() {
        loading_ = true;
        loader_->start(pipeline_.arbiter().session(), midnight_ns_);
    }

    void look_at_loader(std::int64_t now_ns) {
        auto& arbiter = pipeline_.arbiter();
        const auto result = loader_->result();
        if (result == snapshot::Loader::Result::none) return;
        if (result == snapshot::Loader::Result::failed && arbiter.restarting()) {
            loading_ = false;
            loader_->release();
            return restart_.fail();
        }
        snapshot_told_ = true;
        result == snapshot::Loader::Result::ready ? arbiter.on_snapshot(loader_->number(), now_ns)
                                                  : arbiter.on_snapshot_failed(now_ns);
    }

    void look_at_restart(std::int64_t now_ns) {
        auto& arbiter = pipeline_.arbiter();
        switch (restart_.choice()) {
            case Restart::Choice::none:
                return;
            case Restart::Choice::journal:
                return look_at_image(restart_.image(), now_ns);
            case Restart::Choice::snapshot:
                if (loader_) return load_snapshot();
                return restart_.fail();
            case Restart::Choice::nothing:
                snapshot_told_ = true;
                return arbiter.on_snapshot_failed(now_ns);
        }
    }

    // Of the run whose packets are held? Its last message must be what they say; while they are behind it,
    // nobody knows.
    void look_at_image(const journal::Image& image, std::int64_t now_ns) {
        auto& arbiter = pipeline_.arbiter();
        if (!image.session().is(reinterpret_cast<const std::uint8_t*>(arbiter.session())))
            return restart_.fail();
        const std::uint64_t last = image.next_sequence() - 1;
        if (arbiter.known_sequence() <= last) {
            if (image_offered_ns_ == 0) image_offered_ns_ = now_ns;
            if (now_ns - image_offered_ns_ > lines_behind_ns) restart_.fail();
            return;
        }
        if (const auto held = arbiter.held_message(last)) {
            if (!std::ranges::equal(std::span{held->data, held->length}, image.last_message()))
                return restart_.fail();
        }
        snapshot_told_ = true;
        arbiter.on_image(image.next_sequence(), now_ns);
    }

    void run(std::promise<void>& ready) {
        try {
            set_up_thread("fh-receive", thread_settings_,
                          [this] { prefaulted_bytes_ = normalizer_.books().prefault(prefault_orders_); });
            if (journal_ != nullptr)
                journal_->publish();  // before the channel: a journal finds it by that
            else
                journal::JournalFiles::remove(directory_);
            channel_.own(read_clock(CLOCK_MONOTONIC));
            running_.store(true, std::memory_order_release);
            ready.set_value();
            std::visit([this](auto& source) { receive_from(source); }, source_);
            channel_.release();
        } catch (...) {
            ready.set_exception(std::current_exception());  // only what precedes loop.run() throws
        }
        running_.store(false, std::memory_order_release);
    }

    template <class S>
    void receive_from(S& source) {
        clocks_.take(counters_.clock);
        ReceiveLoop<S, Feed> loop(source, requests_, *this, spin_);
        loop.run(stop_);
        put_counters(loop.clock().now_ns(), loop.clock().monotonic_ns());
    }

    void put_counters(std::int64_t now_ns, std::int64_t monotonic_ns) {
        if (monotonic_ns >= kernel_stats_due_ns_) {
            std::visit([](auto& source) { source.refresh_stats(); }, source_);
            clocks_.compare(now_ns - monotonic_ns);
            kernel_stats_due_ns_ = monotonic_ns + kernel_stats_interval_ns;
        }
        clocks_.take(counters_.clock);
        if (meter_.on() && monotonic_ns >= tick_check_due_ns_) {
            meter_.clock().recheck();
            meter_.show_clock();
            tick_check_due_ns_ = monotonic_ns + tick_check_interval_ns;
        }
        std::visit([this](const auto& source) { take_stats(source); }, source_);
        if (now_ns >= day_ends_ns_ && pipeline_.arbiter().lines_down()) pipeline_.arbiter().let_session_go();
        pipeline_.arbiter().refresh_counters();
        counters_.feed = normalizer_.counters();
        put_gaps(pipeline_.arbiter().history());
        const char* session = pipeline_.arbiter().session();
        channel_.put_counters(counters_, {session, strnlen(session, frame::mold_session_bytes)}, now_ns);
        counters_due_ns_ = monotonic_ns + counters_interval_ns;
    }

    template <class S>
    void take_stats(const S& source) {
        for (std::size_t i = 0; i < source.line_count(); ++i) {
            const SourceStats stats = source.stats(i);
            counters_.lines[i].kernel_drops = stats.kernel_drops;
            counters_.lines[i].napi_id = stats.napi_id;
        }
        counters_.receive = source.counters();
    }

    // Copies the entries that may have changed: those from the oldest hole still open on.
    void put_gaps(const sequence::GapHistory& history) {
        if (history.version() == gaps_version_) return;
        gaps_version_ = history.version();
        // More holes since the last time than are kept: their places are passed over, so that the counts
        // agree.
        while (gaps_put_ + gap_history < history.count()) put_new_gap({});
        std::uint64_t index = oldest_open_gap_;
        if (index + gap_history < history.count()) index = history.count() - gap_history;
        bool all_closed = true;
        for (; index < history.count(); ++index) {
            const GapRecord& record = history.records()[index % gap_history];
            index < gaps_put_ ? channel_.update_gap(index, record) : put_new_gap(record);
            all_closed = all_closed && record.closed_ns != 0;
            if (all_closed) oldest_open_gap_ = index + 1;
        }
    }
    void put_new_gap(const GapRecord& record) {
        channel_.add_gap(record);
        ++gaps_put_;
    }

    std::string directory_;
    ThreadSettings thread_settings_;
    std::uint32_t prefault_orders_;
    std::size_t prefaulted_bytes_ = 0;
    bool spin_;
    std::vector<TradingDay> trading_days_;
    bool memory_locked_;
    Counters counters_;
    ClockWatch clocks_;
    publish::ChannelWriter channel_;
    std::unique_ptr<journal::JournalFiles> journal_;  // none: no journal is configured
    Meter meter_;
    Normalizer normalizer_;
    AnySource source_;
    RequestSockets requests_;
    Pipeline<Normalizer, Feed> pipeline_;
    EventQueue events_;
    std::optional<snapshot::Loader> loader_;
    Restart restart_;
    std::int64_t image_offered_ns_ = 0;  // while the lines are behind it
    bool snapshot_pending_ = false;      // books come, or those that came are in use
    bool snapshot_told_ = false;         // the arbiter knows of them
    bool loading_ = false;               // the loader works for us, or has what we use
    std::int64_t midnight_ns_;           // of the trading day, UTC
    std::int64_t day_ends_ns_;           // midnight of the next one
    std::uint64_t session_first_ = 0;

    std::int64_t now_ns_ = 0;
    std::uint64_t next_sequence_ = 0;  // as the channel shows it
    std::int64_t heartbeat_due_ns_ = 0;
    std::int64_t counters_due_ns_ = 0;
    std::int64_t kernel_stats_due_ns_ = 0;
    std::int64_t tick_check_due_ns_ = 0;
    std::uint64_t gaps_version_ = 0;
    std::uint64_t gaps_put_ = 0;         // entries the channel has
    std::uint64_t oldest_open_gap_ = 0;  // all before it are closed and put

    std::atomic<bool> stop_{false};
    std::atomic<bool> running_{false};
    std::future<void> ended_;
    std::thread thread_;
};

}  // namespace fh::receive
