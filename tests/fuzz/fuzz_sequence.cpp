// The input is a schedule: packets of any numbers on any line, replies, time. A sink that trusts nothing
// follows what comes out: every number once and in order, or reported lost; no state that the holes do not
// justify; and it always comes to an end. Inside the arbiter nothing may be allocated.
#include <sanitizer/allocator_interface.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "sequence/arbiter.hpp"

namespace {

thread_local bool allocation_forbidden = false;
void on_malloc(const volatile void*, std::size_t) {
    if (allocation_forbidden) std::abort();
}
void on_free(const volatile void*) {}

// While it lives, allocating is forbidden, or allowed again for the judge.
class Allocation {
  public:
    explicit Allocation(bool forbidden) : before_(allocation_forbidden) { allocation_forbidden = forbidden; }
    ~Allocation() { allocation_forbidden = before_; }
    Allocation(const Allocation&) = delete;

  private:
    bool before_;
};

using namespace fh;
using sequence::Arbiter;
using sequence::Settings;

void require(bool condition) {
    if (!condition) std::abort();
}

// Bytes of the input, zeros behind its end.
struct Input {
    const std::uint8_t* at;
    const std::uint8_t* end;
    bool empty() const { return at == end; }
    std::uint8_t u8() { return empty() ? std::uint8_t{0} : *at++; }
    std::uint16_t u16() {
        const unsigned high = u8();
        return static_cast<std::uint16_t>(high << 8 | u8());
    }
    std::uint64_t u64() {
        std::uint64_t value = 0;
        for (int i = 0; i < 8; ++i) value = value << 8 | u8();
        return value;
    }
};

constexpr std::size_t lines = 3;

// Message n: n % 9 bytes that name it.
void append_message(std::vector<std::uint8_t>& out, std::uint64_t number) {
    const std::size_t length = number % 9;
    std::uint8_t bytes[10];
    frame::store_be16(bytes, static_cast<std::uint16_t>(length));
    frame::store_be64(bytes + 2, number * 0x9E3779B97F4A7C15);
    out.insert(out.end(), bytes, bytes + 2 + length);
}

std::vector<std::uint8_t> data_packet(const char* session, std::uint64_t first, std::uint64_t count) {
    std::vector<std::uint8_t> out(frame::mold_header_bytes);
    frame::encode_mold_header(out.data(), session, first, static_cast<std::uint16_t>(count));
    for (std::uint64_t i = 0; i < count; ++i) append_message(out, first + i);
    return out;
}

struct Hole {
    std::uint64_t first, last;
    bool lost;
};

struct Request {
    std::size_t server;
    std::uint64_t first;
    std::uint16_t count;
};

// Follows the feed and judges it by what it said before.
struct Judge {
    bool content_known = true;  // no raw packet was taken yet
    std::uint64_t position = 0;
    std::uint64_t opened_end = 0;  // holes are announced in ascending order
    FeedState state = FeedState::starting;
    std::vector<Hole> holes;
    std::vector<SequenceRange> lost;
    std::vector<Request> requests;
    std::uint64_t delivered = 0;

    // Holes of which nothing was lost. One with a loss may be over or not: nothing says so but the counter.
    std::size_t whole_holes() const {
        return static_cast<std::size_t>(
            std::count_if(holes.begin(), holes.end(), [](const Hole& h) { return !h.lost; }));
    }

    void on_messages(std::uint64_t first, std::span<const Message> messages, std::int64_t, TimestampKind) {
        const Allocation allowed(false);
        require(first == position && !messages.empty());
        for (const Message& message : messages) {
            std::vector<std::uint8_t> expected;
            append_message(expected, position++);
            if (content_known) {
                require(message.length + 2u == expected.size());
                require(message.length == 0 ||
                        std::memcmp(message.data, expected.data() + 2, message.length) == 0);
            }
        }
        delivered += messages.size();
    }
    void on_lookahead(std::span<const Message> messages) { require(!messages.empty()); }
    void on_clear(std::uint64_t sequence, std::int64_t) {
        if (sequence == 0) {
            require(state == FeedState::ended && whole_holes() == 0);
            holes.clear();
            lost.clear();
            return;
        }
        require(sequence >= position && sequence + 1 > sequence);
        while (position <= sequence) {
            const auto in = std::find_if(lost.begin(), lost.end(), [this](const SequenceRange& range) {
                return range.first <= position && position < range.end;
            });
            require(in != lost.end());
            position = std::min(in->end, sequence + 1);
        }
    }
    void on_event(const Event& event) {
        const Allocation allowed(false);
        switch (event.type) {
            case EventType::state:
                require(event.previous == state && event.state != state);
                state = event.state;
                break;
            case EventType::session_start:
                position = opened_end = event.first;
                break;
            case EventType::session_end:
                require(event.first == position && whole_holes() == 0);
                break;
            case EventType::gap_open:
                require(event.first >= opened_end && event.first >= position && event.last >= event.first);
                opened_end = event.last + 1;
                holes.push_back({event.first, event.last, false});
                break;
            case EventType::gap_closed: {
                const auto hole = std::find_if(holes.begin(), holes.end(),
                                               [&](const Hole& h) { return h.first == event.first; });
                require(hole != holes.end() && hole->last == event.last && !hole->lost);
                holes.erase(hole);
                break;
            }
            case EventType::gap_lost: {
                const auto hole = std::find_if(holes.begin(), holes.end(), [&](const Hole& h) {
                    return h.first <= event.first && event.last <= h.last;
                });
                require(hole != holes.end() && event.first >= position && event.first <= event.last);
                hole->lost = true;
                lost.push_back({event.first, event.last + 1});
                break;
            }
            default:
                break;
        }
    }
    void send_request(std::size_t server, std::span<const std::uint8_t, 20> datagram) {
        const Allocation allowed(false);
        const std::uint64_t first = frame::load_be64(datagram.data() + 10);
        const std::uint16_t count = frame::load_be16(datagram.data() + 18);
        require(count >= 1 && count <= frame::mold_max_count && first >= position);
        require(std::any_of(holes.begin(), holes.end(),
                            [&](const Hole& h) { return h.first <= first && first + count - 1 <= h.last; }));
        if (requests.size() == 64) requests.erase(requests.begin());
        requests.push_back({server, first, count});
    }
};

class Run {
  public:
    explicit Run(Input in) : in_(in), settings_(read_settings()), arbiter_(settings_, judge_, counters_) {}

    void play() {
        while (!in_.empty()) {
            step();
            check();
        }
        finish();
        check();
    }

  private:
    Settings read_settings() {
        const std::uint8_t a = in_.u8(), b = in_.u8(), c = in_.u8();
        Settings settings;
        settings.lines = lines;
        settings.servers = a % 4;
        settings.start = (a & 4) != 0 ? sequence::Start::beginning : sequence::Start::live;
        settings.session = (a & 8) != 0 ? "SESSION--0" : "";
        settings.first_sequence = (a & 16) != 0 ? 1 + in_.u8() : 0;
        settings.max_gap_messages = (a & 32) != 0 ? 0 : 100'000;
        settings.arbitration_ns = (a & 64) != 0 ? 0 : 1000;
        settings.requests_per_s = (a & 128) != 0 ? 0 : 100'000;
        settings.hold_messages = (b & 128) != 0 ? 2'000 : b % 64;
        settings.hold_bytes = (b & 64) != 0 ? 1 : 1 << 18;
        settings.retries = c % 3;
        settings.max_outstanding = 1 + c / 3 % 6;
        settings.timeout_ns = 5000;
        settings.line_down_ns = 1'000'000;
        settings.restart_after_silence = false;  // old packets come at any time here
        return settings;
    }

    void step() {
        const std::uint8_t op = in_.u8();
        const std::size_t line = op >> 4 & 3u;
        const std::size_t from = line % lines;
        switch (op & 15u) {
            case 0:
            case 1:
            case 2: {  // the next messages, some lost before them
                const std::uint8_t how = in_.u8();
                const std::uint64_t first = sent_ + (how & 7u) * (how & 1u);
                send(from, first, 1 + (how >> 3));
                break;
            }
            case 3:
            case 4:
            case 5: {  // old ones, cut anew
                const std::uint8_t back = in_.u8();
                send(from, sent_ > back ? sent_ - back : 1, 1 + in_.u8() % 40u);
                break;
            }
            case 6:
                send_header(from, sent_ + (in_.u8() & 3u), 0);
                break;
            case 7:
                send_header(from, sent_, frame::mold_end_of_session);
                break;
            case 8: {  // a reply
                if (judge_.requests.empty() || settings_.servers == 0) break;
                const std::uint8_t which = in_.u8(), how = in_.u8();
                const Request request = judge_.requests[which % judge_.requests.size()];
                reply(request.server, request.first + how / 64u,
                      std::min<std::uint64_t>(request.count, how % 64u));
                break;
            }
            case 9:
                pass(in_.u8() * std::int64_t{100});
                break;
            case 10:
                pass(in_.u8() * std::int64_t{100'000});
                break;
            case 11: {  // another session
                const std::uint8_t which = in_.u8();
                session_[9] = static_cast<char>('0' + which % 4);
                sent_ = 1;
                break;
            }
            case 12:
                send(from, in_.u64(), 1 + in_.u8() % 3u);
                break;  // any number
            case 13: {  // a datagram of empty messages
                std::vector<std::uint8_t> packet(
                    frame::mold_header_bytes + 2 * std::size_t{in_.u16() % 32'743u + 1}, 0);
                frame::encode_mold_header(
                    packet.data(), session_, sent_,
                    static_cast<std::uint16_t>((packet.size() - frame::mold_header_bytes) / 2));
                judge_.content_known = false;
                sent_ += (packet.size() - frame::mold_header_bytes) / 2;
                on_packet(from, packet);
                break;
            }
            case 14: {  // raw bytes
                const std::size_t length =
                    std::min<std::size_t>(in_.u8(), static_cast<std::size_t>(in_.end - in_.at));
                judge_.content_known = false;
                on_packet(from, std::vector<std::uint8_t>(in_.at, in_.at + length));
                in_.at += length;
                break;
            }
            default: {  // a session's header before raw bytes, as a reply
                std::vector<std::uint8_t> packet(frame::mold_header_bytes);
                frame::encode_mold_header(packet.data(), session_, in_.u64(), in_.u16());
                if (settings_.servers != 0) on_reply(line % settings_.servers, packet);
                break;
            }
        }
    }

    void send(std::size_t line, std::uint64_t first, std::uint64_t count) {
        if (first > ~std::uint64_t{0} - count) count = 0;
        const auto packet = data_packet(session_, first, count);
        if (first - sent_ < 1000) sent_ = std::max(sent_, first + count);
        on_packet(line, packet);
    }
    void send_header(std::size_t line, std::uint64_t sequence, std::uint16_t count) {
        std::vector<std::uint8_t> packet(frame::mold_header_bytes);
        frame::encode_mold_header(packet.data(), session_, sequence, count);
        on_packet(line, packet);
    }
    void reply(std::size_t server, std::uint64_t first, std::uint64_t count) {
        if (first > ~std::uint64_t{0} - count) return;
        on_reply(server, data_packet(arbiter_.session(), first, count));
    }
    void on_packet(std::size_t line, const std::vector<std::uint8_t>& packet) {
        const Allocation forbidden(true);
        arbiter_.on_packet(line, packet.data(), packet.size(), now_, TimestampKind::user, now_);
    }
    void on_reply(std::size_t server, const std::vector<std::uint8_t>& packet) {
        const Allocation forbidden(true);
        arbiter_.on_reply(server, packet.data(), packet.size(), now_, TimestampKind::user, now_);
    }

    // Time passes; the arbiter is called whenever it asks to be.
    void pass(std::int64_t duration_ns) {
        const Allocation forbidden(true);
        const std::int64_t until = now_ + duration_ns;
        for (int turns = 0; arbiter_.next_deadline() <= until; ++turns) {
            require(turns < 100'000);
            now_ = std::max(now_, arbiter_.next_deadline());
            arbiter_.on_timer(now_);
        }
        now_ = until;
        arbiter_.on_timer(now_);
    }

    // The servers fall silent: after all retries every hole must be over.
    void finish() {
        for (int rounds = 0; counters_.gaps.open != 0; ++rounds) {
            require(rounds < 10'000);
            pass(1'000'000);
        }
        require(arbiter_.held() == 0);
        require(arbiter_.state() != FeedState::recovering);
    }

    void check() {
        arbiter_.refresh_counters();
        const GapCounters& gaps = counters_.gaps;
        const std::uint64_t in = gaps.recovered_line + gaps.recovered_rewind + gaps.unrecovered;
        require(judge_.whole_holes() <= gaps.open && gaps.open <= judge_.holes.size());
        require(gaps.open != 0 ? in < gaps.messages : in == gaps.messages);
        if (gaps.open == 0) judge_.holes.clear();
        std::uint64_t won = 0;
        for (const LineCounters& line : counters_.lines) {
            require(line.won + line.late == line.messages);
            require(line.malformed + line.foreign_session <= line.packets);
            won += line.won;
        }
        require(won + gaps.recovered_rewind == judge_.delivered + arbiter_.held());
        require(arbiter_.state() == judge_.state);
        require(arbiter_.next_sequence() == judge_.position);
        const RecoveryCounters& recovery = counters_.recovery;
        require(recovery.retries <= recovery.timeouts && recovery.timeouts <= recovery.requests);
        require(recovery.useless_replies <= recovery.replies);
        if (judge_.state == FeedState::live || judge_.state == FeedState::ended) {
            require(gaps.open == 0 && arbiter_.held() == 0);
        }
        if (judge_.state == FeedState::live) require(judge_.lost.empty());
    }

    Input in_;
    Settings settings_;
    Judge judge_;
    Counters counters_;
    Arbiter<Judge> arbiter_;
    char session_[11] = "SESSION--0";
    std::uint64_t sent_ = 1;
    std::int64_t now_ = 1'700'000'000'000'000'000;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    require(__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) != 0);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Run({data, data + size}).play();
    return 0;
}
