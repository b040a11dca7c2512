// The input is a schedule of a small exchange: messages, losses on the line, what a snapshot server sends and
// in which pieces, time. Client, image, arbiter and books are the product's; a naive model that shares no
// code with them follows the exchange. Whatever the server sends: nothing but a whole image of the feed's
// session, which begins at number 1 and ends with G, changes a book; while LIVE books and records are
// exactly the model's (unless the image was whole and lied), and always the books add up.
#include <sys/prctl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "book/audit.hpp"
#include "pipeline.hpp"
#include "record/buffer_publisher.hpp"
#include "snapshot/image_reader.hpp"
#include "snapshot/soup_client.hpp"

namespace {

using namespace fh;
using Bytes = std::vector<std::uint8_t>;

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

// Bytes of the input, zeros behind its end.
struct Input {
    const std::uint8_t* at;
    const std::uint8_t* end;
    bool empty() const { return at == end; }
    std::uint8_t u8() { return empty() ? std::uint8_t{0} : *at++; }
    std::uint16_t u16() { return static_cast<std::uint16_t>(u8() << 8 | u8()); }
};

void put(Bytes& out, std::uint64_t value, unsigned bytes) {
    while (bytes-- > 0) out.push_back(static_cast<std::uint8_t>(value >> (8 * bytes)));
}
void put(Bytes& out, const std::string& text) { out.insert(out.end(), text.begin(), text.end()); }

// ---- the naive side

constexpr unsigned instruments = 3;

struct Order {
    std::uint64_t reference;
    unsigned instrument;
    char side;
    std::uint32_t shares, price;
    bool operator==(const Order&) const = default;
};
using Level = std::pair<std::uint64_t, std::uint32_t>;  // shares, orders

// All orders in the order of their queues: oldest first.
struct Model {
    std::vector<Order> orders;

    auto find(std::uint64_t reference) {
        return std::ranges::find(orders, reference, [](const Order& order) { return order.reference; });
    }
    void take(std::uint64_t reference, std::uint32_t shares) {
        const auto order = find(reference);
        if ((order->shares -= shares) == 0) orders.erase(order);
    }
    std::vector<Order> of(unsigned instrument) const {
        std::vector<Order> out;
        for (const Order& order : orders) {
            if (order.instrument == instrument) out.push_back(order);
        }
        std::ranges::stable_sort(
            out, {}, [](const Order& o) { return std::pair(o.side, o.side == 'B' ? ~o.price : o.price); });
        return out;
    }
};

struct World {
    std::string session;
    std::vector<Bytes> messages;        // number 1 first
    std::vector<Model> after{Model{}};  // so many messages
    std::uint64_t next_reference = 1;

    std::uint64_t next() const { return messages.size() + 1; }

    Bytes head(char type, unsigned instrument) const {
        Bytes out;
        put(out, static_cast<std::uint8_t>(type), 1);
        put(out, instrument, 2);
        put(out, 0, 2);
        put(out, messages.size(), 6);
        return out;
    }
    static std::string stock(unsigned instrument) { return "STOCK" + std::to_string(instrument) + "  "; }
    Bytes add_message(const Order& order) const {
        Bytes out = head('A', order.instrument);
        put(out, order.reference, 8);
        put(out, static_cast<std::uint8_t>(order.side), 1);
        put(out, order.shares, 4);
        put(out, stock(order.instrument));
        put(out, order.price, 4);
        return out;
    }

    // The exchange's next message.
    void go_on(std::uint8_t what) {
        Model model = after.back();
        Bytes out;
        const unsigned instrument = 1 + what % instruments;
        if (model.orders.empty() || (what & 3u) == 0) {
            const std::uint64_t far = (what & 64) != 0 ? 1'000'000 : 0;
            const Order order{next_reference++ + far, instrument, (what & 16) != 0 ? 'B' : 'S',
                              100u + what % 7, 10'000u + what / 8 % 16};
            model.orders.push_back(order);
            out = add_message(order);
        } else {
            const Order order = model.orders[what / 8 % model.orders.size()];
            switch (what & 7u) {
                case 1:
                case 2: {
                    const std::uint32_t shares = (what & 32) != 0 ? order.shares : 1;
                    out = head((what & 1) != 0 ? 'E' : 'X', order.instrument);
                    put(out, order.reference, 8);
                    put(out, shares, 4);
                    if ((what & 1) != 0) put(out, 7, 8);
                    model.take(order.reference, shares);
                    break;
                }
                case 3:
                case 5:
                    out = head('D', order.instrument);
                    put(out, order.reference, 8);
                    model.take(order.reference, order.shares);
                    break;
                case 6: {
                    Order changed = order;
                    changed.reference = next_reference++;
                    changed.price = 10'000u + what / 16;
                    out = head('U', order.instrument);
                    put(out, order.reference, 8);
                    put(out, changed.reference, 8);
                    put(out, changed.shares, 4);
                    put(out, changed.price, 4);
                    model.take(order.reference, order.shares);
                    model.orders.push_back(changed);
                    break;
                }
                default:
                    out = head('S', 0);
                    out.push_back('Q');
            }
        }
        messages.push_back(out);
        after.push_back(model);
    }

    // The image of everything before `number`, as SoupBinTCP packets.
    Bytes image(std::uint64_t number, std::uint64_t told) const {
        Bytes out;
        const auto packet = [&out](const Bytes& payload) {
            put(out, payload.size() + 1, 2);
            out.push_back('S');
            out.insert(out.end(), payload.begin(), payload.end());
        };
        for (unsigned i = 1; i <= instruments; ++i) {
            Bytes directory = head('R', i);
            put(directory, stock(i));
            directory.resize(39, ' ');
            packet(directory);
            for (const Order& order : after[number - 1].of(i)) packet(add_message(order));
        }
        std::string digits = std::to_string(told);
        Bytes end{'G'};
        put(end, std::string(20 - digits.size(), ' ') + digits);
        packet(end);
        return out;
    }
};

// What a load must come to, by all bytes of the server that the client has.
struct Verdict {
    enum { more, done, failed } is = more;
    std::uint64_t number = 0;
};

std::string strip(std::string text) {
    while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.pop_back();
    return text.substr(std::min(text.find_first_not_of(' '), text.size()));
}

Verdict judge(const Bytes& stream, const std::string& session) {
    static const std::map<char, std::size_t> allowed = {
        {'S', 12}, {'R', 39}, {'H', 25}, {'Y', 20}, {'L', 26}, {'V', 35}, {'W', 12}, {'K', 28},
        {'J', 35}, {'h', 21}, {'A', 36}, {'F', 40}, {'I', 50}, {'N', 20}, {'O', 48}};
    const Verdict failed{Verdict::failed, 0};
    bool accepted = false;
    std::vector<std::string> references;
    for (std::size_t at = 0; stream.size() - at >= 2;) {
        const std::size_t length = stream[at] * 256u + stream[at + 1];
        if (length == 0) return failed;
        if (stream.size() - at - 2 < length) break;
        const std::string packet(stream.begin() + static_cast<std::ptrdiff_t>(at + 2),
                                 stream.begin() + static_cast<std::ptrdiff_t>(at + 2 + length));
        at += 2 + length;
        const char type = packet[0];
        const std::string payload = packet.substr(1);
        if (type == '+' || type == 'H' || type == 'U') continue;
        if (type == 'A' && !accepted) {
            if (payload.size() != 30 || strip(payload.substr(0, 10)) != strip(session)) return failed;
            std::string number = strip(payload.substr(10));
            while (number.size() > 1 && number[0] == '0') number.erase(0, 1);
            if (number != "1") return failed;
            accepted = true;
            continue;
        }
        if (type != 'S' || !accepted || payload.empty()) return failed;
        if (payload[0] != 'G') {
            const auto known = allowed.find(payload[0]);
            if (known == allowed.end() || known->second != payload.size()) return failed;
            if (payload[0] == 'A' || payload[0] == 'F') references.push_back(payload.substr(11, 8));
            continue;
        }
        const std::size_t first = payload.find_first_of("0123456789");
        const std::size_t last = payload.find_last_of("0123456789");
        if (payload.size() != 21 || first == std::string::npos) return failed;
        const std::string digits = payload.substr(first, last + 1 - first);
        if (digits.find_first_not_of("0123456789") != std::string::npos) return failed;
        if (payload.find_first_not_of("0123456789 ", 1) != std::string::npos) return failed;
        std::ranges::sort(references);
        if (std::ranges::adjacent_find(references) != references.end()) return failed;
        unsigned __int128 number = 0;
        for (const char c : digits) number = number * 10 + static_cast<unsigned>(c - '0');
        if (number == 0 || number > ~std::uint64_t{0} - 6) return failed;  // none, or it leaves no room
        return {Verdict::done, static_cast<std::uint64_t>(number)};
    }
    return {};
}

// ---- the product's side

class Run {
  public:
    explicit Run(Input in)
        : in_(in),
          normalizer_(publisher_, table_.data(), normalizer_settings()),
          pipeline_(settings(), counters_, normalizer_, *this) {
        begin_session();
    }

    void play() {
        while (!in_.empty()) {
            step();
            check();
        }
    }

    // The host.
    void on_event(const Event& event) {
        if (event.type == EventType::state) state_ = event.state;
        if (event.type == EventType::session_start) lied_ = false;
        if (event.type != EventType::snapshot_end || event.first == 0) return;
        require(done_ && event.first == reader_->number() + offset_, "spliced where the snapshot says");
        lied_ = !honest_;
    }
    void send_request(std::size_t, std::span<const std::uint8_t, 20>) {}
    void start_snapshot(std::int64_t now_ns) {
        const std::string session(pipeline_.arbiter().session(), 10);
        client_ = std::make_unique<snapshot::SoupClient>("user", "secret", session, now_ns);
        reader_ = std::make_unique<snapshot::ImageReader>(limits(), 0);
        loading_ = &world_of(session);
        received_.clear();
        done_ = logged_in_ = false;
    }
    book::BookSet& snapshot_books() {
        require(done_, "books of a whole image");
        return reader_->books();
    }

  private:
    static book::BookLimits limits() { return {1 << 12, 4, 1 << 8}; }
    static record::NormalizerSettings normalizer_settings() {
        record::NormalizerSettings out;
        out.limits = limits();
        return out;
    }
    sequence::Settings settings() {
        const std::uint8_t a = in_.u8();
        sequence::Settings out;
        out.lines = 1;
        out.snapshot = true;
        out.start = (a & 1) != 0 ? sequence::Start::beginning : sequence::Start::live;
        out.first_to_apply_offset = offset_ = a >> 1 & 1u;
        out.hold_messages = (a & 4) != 0 ? 8 : 256;
        out.arbitration_ns = (a & 8) != 0 ? 0 : 1000;
        out.servers = (a & 16) != 0 ? 1 : 0;  // a silent one
        out.retries = 0;
        out.timeout_ns = 1000;
        out.splice_timeout_ns = 1'000'000;
        out.line_down_ns = 1'000'000'000'000;
        return out;
    }

    World& world_of(const std::string& session) {
        for (auto& world : worlds_) {
            if (world->session == session) return *world;
        }
        require(false, "a session that nobody sent");
        std::abort();
    }
    World& world() { return *worlds_.back(); }
    void begin_session() {
        worlds_.push_back(std::make_unique<World>());
        world().session = (worlds_.size() % 2 != 0 ? "DAY" : "    DAY") + std::to_string(worlds_.size());
        world().session.resize(10, ' ');
    }

    void step() {
        const std::uint8_t op = in_.u8();
        switch (op & 7u) {
            case 0:
            case 1:
            case 2: {  // messages in a packet; it may get lost
                const std::uint64_t first = world().next();
                for (int count = 1 + (op >> 4 & 3); count > 0 && world().messages.size() < 2000; --count)
                    world().go_on(in_.u8());
                if ((op & 128) == 0) send(first, world().next());
                break;
            }
            case 3: {  // an old packet once more
                const std::uint64_t first =
                    world().next() - std::min<std::uint64_t>(in_.u8(), world().next() - 1);
                send(first, std::min(first + 1 + (op >> 4), world().next()));
                break;
            }
            case 4:
                feed_client(1 + in_.u8());
                break;
            case 5:
                feed_client(1 + in_.u8() * std::size_t{64});
                break;
            case 6:
                pass((op & 128) != 0 ? 200'000'000 : in_.u8() * std::int64_t{1000});
                break;
            default:
                if ((op & 128) != 0) {
                    header(frame::mold_end_of_session);
                } else if ((op & 64) != 0 && worlds_.size() < 8) {
                    begin_session();
                } else {
                    header(frame::mold_heartbeat);
                }
        }
    }

    // ---- the line

    void send(std::uint64_t first, std::uint64_t end) {
        Bytes packet(frame::mold_header_bytes);
        frame::encode_mold_header(packet.data(), world().session.data(), first,
                                  static_cast<std::uint16_t>(end - first));
        for (; first < end; ++first) {
            const Bytes& message = world().messages[first - 1];
            put(packet, message.size(), 2);
            packet.insert(packet.end(), message.begin(), message.end());
        }
        pipeline_.arbiter().on_packet(0, packet.data(), packet.size(), now_, TimestampKind::user, now_);
    }
    void header(std::uint16_t what) {
        Bytes packet(frame::mold_header_bytes);
        frame::encode_mold_header(packet.data(), world().session.data(), world().next(), what);
        pipeline_.arbiter().on_packet(0, packet.data(), packet.size(), now_, TimestampKind::user, now_);
    }
    void pass(std::int64_t duration_ns) {
        now_ += duration_ns;
        auto& arbiter = pipeline_.arbiter();
        for (int turns = 0; arbiter.next_deadline() <= now_; ++turns) {
            require(turns < 10'000, "a deadline that never passes");
            arbiter.on_timer(now_);
        }
    }

    // ---- the server: everything that it will send to one client

    Bytes answer(const World& world) {
        const std::uint8_t how = in_.u8();
        std::uint64_t number = world.next();
        if ((how & 1) != 0) number -= std::min<std::uint64_t>(in_.u8(), number - 1);  // an older one
        Bytes out;
        put(out, 31, 2);
        out.push_back('A');
        put(out, world.session);
        put(out, std::string((how & 2) != 0 ? "00000000000000000001" : "                   1"));
        const Bytes image = world.image(number, number - offset_);
        honest_ = number > offset_;
        out.insert(out.end(), image.begin(), image.end());
        for (unsigned faults = how >> 5; faults > 0; --faults) damage(out);
        if ((how & 16) != 0) put(out, 0x01'5A, 3);  // Z
        return out;
    }
    void damage(Bytes& out) {
        honest_ = false;
        const std::uint8_t how = in_.u8();
        const std::size_t at = out.empty() ? 0 : in_.u16() % out.size();
        const auto place = out.begin() + static_cast<std::ptrdiff_t>(at);
        if (how < 32) {
            out.resize(at);
        } else if (how < 160) {
            if (!out.empty()) out[at] = in_.u8();
        } else {
            Bytes more;
            for (unsigned count = how - 160u; count > 0; --count) more.push_back(in_.u8());
            out.insert(place, more.begin(), more.end());
        }
    }

    // ---- the loader, as snapshot/loader.hpp does it

    void feed_client(std::size_t bytes) {
        if (!client_) return;
        if (!logged_in_) stream_ = answer(*loading_);
        logged_in_ = true;
        bytes = std::min(bytes, stream_.size());
        if (bytes == 0) return finish(false);  // cut
        const auto upto = stream_.begin() + static_cast<std::ptrdiff_t>(bytes);
        const std::unique_ptr<std::uint8_t[]> piece(new std::uint8_t[bytes]);
        std::copy(stream_.begin(), upto, piece.get());
        received_.insert(received_.end(), stream_.begin(), upto);
        stream_.erase(stream_.begin(), upto);
        auto result = snapshot::ImageReader::Result::more;
        client_->on_bytes({piece.get(), bytes}, now_, [&](const Message& message) {
            result = reader_->on_message(message);
            return result == snapshot::ImageReader::Result::more;
        });
        client_->on_timer(now_);
        client_->sent(client_->output().size());
        const bool failed = !client_->failure().empty() || result == snapshot::ImageReader::Result::bad;
        const bool done = !failed && result == snapshot::ImageReader::Result::done;
        const Verdict verdict = judge(received_, loading_->session);
        require(done == (verdict.is == Verdict::done), "whole if and only if it is");
        require(failed == (verdict.is == Verdict::failed), "refused if and only if it must be");
        if (done) require(reader_->number() == verdict.number, "number of the snapshot");
        if (done || failed) finish(done);
    }
    void finish(bool done) {
        client_.reset();
        done_ = done;
        auto& arbiter = pipeline_.arbiter();
        done ? arbiter.on_snapshot(reader_->number(), now_) : arbiter.on_snapshot_failed(now_);
    }

    // ---- what must hold after every step

    void check() {
        const std::string fault = book::audit(normalizer_.books());
        require(fault.empty(), fault.c_str());
        follow_records();
        const auto& arbiter = pipeline_.arbiter();
        require(arbiter.state() == state_, "the state was told");
        if (state_ != FeedState::live || lied_) return;
        require(!arbiter.loading() && arbiter.held() == 0, "nothing waits while live");
        const World& world = world_of(std::string(arbiter.session(), frame::mold_session_bytes));
        const Model& model = world.after[arbiter.next_sequence() - 1];
        for (unsigned i = 1; i <= instruments; ++i) {
            require(records_.of(i) == model.of(i), "the records' books while live");
            check_levels(i, 'B', model);
            check_levels(i, 'S', model);
        }
    }

    void check_levels(unsigned instrument, char side, const Model& model) {
        std::map<std::uint32_t, Level> expected;
        for (const Order& order : model.of(instrument)) {
            if (order.side != side) continue;
            Level& level = expected[order.price];
            level.first += order.shares;
            ++level.second;
        }
        normalizer_.books().for_each_level(
            static_cast<std::uint16_t>(instrument), side == 'B' ? book::Side::bid : book::Side::ask,
            [&](std::uint32_t price, std::uint64_t size, std::uint32_t orders, std::uint32_t) {
                const auto level = expected.find(price);
                require(level != expected.end() && level->second == Level(size, orders),
                        "a level while live");
                expected.erase(level);
            });
        require(expected.empty(), "all levels while live");
    }

    // A consumer of mbo records alone.
    void follow_records() {
        auto& buffer = publisher_.buffer(dbn::Schema::mbo);
        for (std::size_t at = 0; at < buffer.size(); at += sizeof(dbn::Mbo)) {
            dbn::Mbo record;
            std::memcpy(&record, &buffer[at], sizeof record);
            const auto order = records_.find(record.order_id);
            if (record.action == 'R') {
                std::erase_if(records_.orders,
                              [&](const Order& o) { return o.instrument == record.hd.instrument_id; });
            } else if (record.action == 'A') {
                records_.orders.push_back({record.order_id, record.hd.instrument_id,
                                           record.side == 'B' ? 'B' : 'S', record.size,
                                           static_cast<std::uint32_t>(record.price / 100'000)});
            } else if (record.action == 'C' && order != records_.orders.end()) {
                records_.take(record.order_id, std::min(record.size, order->shares));
            }
        }
        buffer.clear();
    }

    Input in_;
    std::uint64_t offset_ = 0;
    std::vector<std::unique_ptr<World>> worlds_;
    book::Reserved<std::byte> table_{book::books_file_size, book::Pages::small};
    record::BufferPublisher publisher_{dbn::schema_bit(dbn::Schema::mbo)};
    record::Normalizer<record::BufferPublisher> normalizer_;
    Counters counters_;
    Pipeline<record::Normalizer<record::BufferPublisher>, Run> pipeline_;
    std::unique_ptr<snapshot::SoupClient> client_;
    std::unique_ptr<snapshot::ImageReader> reader_;
    const World* loading_ = nullptr;
    Bytes stream_;    // what the server has still to send
    Bytes received_;  // what the client has got
    bool logged_in_ = false;
    bool honest_ = false;  // the image on its way is right, if it comes whole
    bool done_ = false;    // it came whole
    bool lied_ = false;    // the books are of one that was whole and not right
    Model records_;
    FeedState state_ = FeedState::starting;
    std::int64_t now_ = 1'700'000'000'000'000'000;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);  // pools are mapped anew for each input, and hardly touched
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Run({data, data + size}).play();
    return 0;
}
