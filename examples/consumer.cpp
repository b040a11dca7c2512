// Prints trades and the book behind them, and stops acting the moment the feed is not LIVE.
//
//     g++ -std=c++20 -O2 -I"$(python -c 'import feedhandler; print(feedhandler.get_include())')" consumer.cpp
//     -o consumer
//     ./consumer xnas-itch 10        # ten trades, then end; exit status 1 if the daemon is (or goes) away
#include <feedhandler.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s CHANNEL [TRADES]\n", argv[0]);
        return 2;
    }
    const long wanted = argc > 2 ? std::atol(argv[2]) : 1;
    try {
        feedhandler::Consumer consumer(feedhandler::channel_folder(argv[1]),
                                       feedhandler::mask({feedhandler::Schema::trades}));
        long seen = 0;
        while (seen < wanted) {
            const bool records =
                consumer.wait(100'000'000);  // 0.1 s, or until a record comes or the state changes
            if (!records && consumer.state() == feedhandler::dead) {
                std::fprintf(stderr, "no daemon\n");
                return 1;
            }
            consumer.poll([&](const feedhandler::RecordHeader&, const std::byte* body) {
                feedhandler::dbn::Trade trade;
                std::memcpy(&trade, body, sizeof trade);
                const std::string symbol = consumer.symbol(trade.hd.instrument_id);
                feedhandler::BookView book;
                std::uint8_t state = feedhandler::dead;
                if (seen++ >= wanted || consumer.book(symbol, book, state) != feedhandler::ReadResult::ok)
                    return;
                const bool act = state == feedhandler::live && book.bid_count > 0 && book.ask_count > 0;
                std::printf("%-8s %u @ %.4f  %s %.4f %.4f\n", symbol.c_str(), trade.size,
                            static_cast<double>(trade.price) / 1e9, act ? "act" : "do not act",
                            static_cast<double>(book.bids[0].price) / 1e9,
                            static_cast<double>(book.asks[0].price) / 1e9);
            });
        }
        std::fprintf(stderr, "lost %llu\n", static_cast<unsigned long long>(consumer.lost()));
    } catch (const feedhandler::ChannelError& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
    return 0;
}
