// Follow a running channel from C++20: the one header to include; `python -c "import feedhandler;
// print(feedhandler.get_include())"` prints the folder for -I. Header only, Linux, needs nothing but
// pthread's types.
//
//     feedhandler::Consumer consumer(feedhandler::channel_folder("xnas-itch"),
//     feedhandler::mask({Schema::mbp_1, Schema::trades})); while (consumer.state() != feedhandler::dead) {
//         consumer.wait(100'000'000);
//         consumer.poll([&](const feedhandler::RecordHeader& header, const std::byte* body) { ... });
//     }
//
// Act on a book (consumer.book(symbol, view, state)) only if its state is LIVE. One consumer a thread.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <string>

#include "../core/book/table_reader.hpp"
#include "../core/publish/conflate.hpp"
#include "../core/publish/consumer.hpp"
#include "../core/publish/pair_consumer.hpp"
#include "../core/record/dbn.hpp"

namespace feedhandler {

using fh::BookLevel;     // price in 1e-9, size, orders
using fh::BookView;      // up to ten levels a side, best first
using fh::Event;         // body of a record of schema `event`
using fh::FeedState;     // starting, live, recovering, stale, ended
using fh::ReadResult;    // ok, no_such_instrument, torn
using fh::RecordHeader;  // schema, state, low 32 bits of the sequence number
using fh::TradingEvent;  // the same, of type `trading`
using fh::publish::ChannelError;
using fh::publish::Conflator;  // the newest record of each instrument
using fh::publish::Consumer;
using fh::publish::PairConsumer;  // two channels of one feed as one stream
using fh::publish::WaitStrategy;
namespace dbn = fh::dbn;  // the bodies: dbn::Mbo, dbn::Mbp1, dbn::Mbp10, dbn::Trade, ...
using fh::dbn::Schema;

inline constexpr std::uint8_t dead = fh::state_dead;  // what Consumer::state() says without a daemon
inline constexpr std::uint8_t live = static_cast<std::uint8_t>(FeedState::live);

constexpr std::uint32_t mask(std::initializer_list<Schema> schemas) {
    std::uint32_t out = 0;
    for (const Schema schema : schemas) out |= fh::dbn::schema_bit(schema);
    return out;
}

// Folder of a channel given by name, looked up where `feedhandler` looks, or by path (anything with a slash).
inline std::string channel_folder(const std::string& channel) {
    if (channel.find('/') != std::string::npos) return channel;
    if (const char* folder = std::getenv("FEEDHANDLER_RUNTIME_DIR"))
        return std::string(folder) + "/" + channel;
    if (const char* folder = std::getenv("RUNTIME_DIRECTORY")) {
        const std::string first(folder);
        return first.substr(0, first.find(':')) + "/" + channel;
    }
    if (const char* folder = std::getenv("XDG_RUNTIME_DIR"))
        return std::string(folder) + "/feedhandler/" + channel;
    if (::access("/run/feedhandler", W_OK) == 0) return "/run/feedhandler/" + channel;
    return "/tmp/feedhandler-" + std::to_string(::getuid()) + "/" + channel;
}

}  // namespace feedhandler
