// The ring, the channel page and the book table under ThreadSanitizer: one writer, two readers, in one
// process over two mappings of the same files. Exit status 0 when nothing was torn and read + lost = written.
//
// The bodies are stored by relaxed atomic words here, as the readers load them: a record that is overwritten
// while a reader copies it is the one place where the protocol lets both touch a word, and the writer's plain
// stores would be reported there (see ring_writer.hpp). All else is the code as it ships.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "book/table_writer.hpp"
#include "publish/channel_writer.hpp"
#include "publish/consumer.hpp"

namespace {

using namespace fh;

constexpr std::uint64_t messages = 300'000;
std::atomic<int> failures{0};
std::atomic<int> ready{0};

void check(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "%s\n", what);
    ++failures;
}

void write_record(publish::ChannelWriter& channel, dbn::Schema schema, std::uint64_t number) {
    std::uint64_t body[66] = {};
    const std::size_t bytes = dbn::schema_sizes[static_cast<std::size_t>(schema)];
    for (std::size_t i = 0; i < bytes / 8; ++i) body[i] = number * 31 + i;
    publish::store_words(channel.ring().claim(schema, static_cast<std::uint32_t>(number)), body, bytes);
}

void write_all(publish::ChannelWriter& channel, book::TableWriter& table) {
    Counters counters;
    for (std::uint64_t n = 0; n < messages; ++n) {
        if (n % 1000 == 0) channel.set_state(n % 2000 == 0 ? FeedState::live : FeedState::recovering);
        book::Block& block = table.block(7);
        book::TableWriter::begin(block);
        for (std::uint32_t& key : block.sides[0].keys) book::store(key, static_cast<std::uint32_t>(n));
        book::TableWriter::end(block, n, static_cast<std::int64_t>(n));
        write_record(channel, n % 3 == 0 ? dbn::Schema::mbp_10 : dbn::Schema::mbo, n);
        channel.ring().commit();
        channel.set_next_sequence(n + 1);
        counters.feed.messages = counters.gaps.total = n;
        if (n % 16 == 0) channel.put_counters(counters, "SESSION", static_cast<std::int64_t>(n));
        if (n % 64 == 0) channel.add_gap({0, 0, n, n, n, n, n, n});
        if (n % 256 == 0) channel.heartbeat(publish::monotonic_now_ns());
    }
    channel.publish({0, 0, 0, EventType::state, FeedState::ended, FeedState::live, 255, {}, {}}, 0);
}

bool read_once(publish::Consumer& consumer, std::uint64_t& read, std::uint64_t& next) {
    bool ended = false;
    consumer.poll([&](const RecordHeader& header, const std::byte* body) {
        if (header.schema == static_cast<std::uint8_t>(dbn::Schema::event)) {
            ended = true;
            return;
        }
        std::uint64_t words[66];
        const std::size_t count = (header.length - sizeof header) / 8;
        std::memcpy(words, body, count * 8);
        bool good = words[0] / 31 >= next && words[0] % 31 == 0;
        for (std::size_t i = 0; i < count; ++i) good = good && words[i] == words[0] + i;
        check(good && header.sequence == static_cast<std::uint32_t>(words[0] / 31), "torn record");
        next = words[0] / 31 + 1;
        ++read;
    });
    return ended;
}

void look_around(const publish::Consumer& consumer, std::uint64_t next) {
    check(consumer.channel().next_sequence() + 1 >= next, "next_sequence is older than the records");
    CounterSlot slot;
    if (consumer.channel().read_counters(slot))
        check(slot.counters.feed.messages == slot.counters.gaps.total, "torn counters");
    book::Block block;
    const auto* blocks =
        reinterpret_cast<const book::Block*>(consumer.channel().books() + book::blocks_offset);
    if (!detail::copy_block(blocks[7], block)) return;
    for (const std::uint32_t key : block.sides[0].keys) check(key == block.sequence, "torn book");
    check(block.sequence + 1 >= next || next == 0, "the book is older than the records");
}

void read_all(const std::string& directory, unsigned pause_us) {
    publish::Consumer consumer(directory, 0xff);
    ++ready;
    std::uint64_t read = 0, next = 0;
    while (!read_once(consumer, read, next)) {
        look_around(consumer, next);
        if (pause_us != 0) std::this_thread::sleep_for(std::chrono::microseconds(pause_us));
    }
    std::printf("read %llu lost %llu\n", static_cast<unsigned long long>(read),
                static_cast<unsigned long long>(consumer.lost()));
    check(read + consumer.lost() == messages, "read + lost is not what was written");
    for (const GapRecord& gap : consumer.channel().read_gaps()) check(gap.first == gap.requests, "torn gap");
}

}  // namespace

int main(int, char** argv) {
    publish::ChannelSettings settings;
    settings.directory = argv[1];
    settings.channel = "stress";
    settings.epoch = 1;
    settings.ring_bytes = 1 << 18;
    settings.books_bytes = book::books_file_size;
    publish::ChannelWriter channel(settings);
    book::TableWriter table(channel.books().data());
    channel.own(publish::monotonic_now_ns());
    std::thread fast(read_all, settings.directory, 0u), slow(read_all, settings.directory, 3000u);
    while (ready != 2) std::this_thread::yield();
    write_all(channel, table);
    fast.join();
    slow.join();
    channel.release();
    return failures == 0 ? 0 : 1;
}
