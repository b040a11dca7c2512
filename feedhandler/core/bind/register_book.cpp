#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <tuple>

#include "bind/book_view.hpp"
#include "bind/register.hpp"
#include "book/audit.hpp"
#include "book/table_reader.hpp"
#include "decode/types.hpp"
#include "record/buffer_publisher.hpp"
#include "record/normalizer.hpp"

namespace nb = nanobind;

namespace fh::bind {

namespace {

using LevelTuple =
    std::tuple<std::uint32_t, std::uint64_t, std::uint32_t>;  // price (4 decimals), size, orders

// Books and records of messages handed in from Python.
class BookNormalizer {
  public:
    BookNormalizer(std::int64_t midnight_ns, std::vector<std::string> symbols, std::uint32_t schema_mask,
                   int state, std::uint32_t orders, std::uint32_t index_pages, std::uint32_t deep_nodes,
                   bool trading_events)
        : file_(book::books_file_size, book::Pages::small),
          publisher_(schema_mask),
          normalizer_(
              publisher_, file_.data(),
              settings(midnight_ns, std::move(symbols), orders, index_pages, deep_nodes, trading_events)) {
        normalizer_.set_state(static_cast<FeedState>(state));
    }

    void apply(std::uint64_t first_sequence, const std::vector<nb::bytes>& messages, std::int64_t ts_recv_ns,
               bool doubtful) {
        constexpr TimestampKind kind = TimestampKind::kernel;
        normalizer_.on_messages(first_sequence, spans(messages), ts_recv_ns,
                                doubtful ? in_doubt(kind) : kind);
    }
    void announce(const std::vector<nb::bytes>& messages) { normalizer_.on_lookahead(spans(messages)); }
    void set_state(int state) { normalizer_.set_state(static_cast<FeedState>(state)); }
    void clear(std::uint64_t sequence, std::int64_t ts_ns) { normalizer_.on_clear(sequence, ts_ns); }

    nb::dict take_records() { return bind::take_records(publisher_); }

    nb::dict counters() const {
        const FeedCounters counters = normalizer_.counters();
        const auto* values = reinterpret_cast<const std::uint64_t*>(&counters);
        nb::dict out;
        for (const CounterInfo& info : feed_counter_info) out[info.name] = *values++;
        return out;
    }

    std::vector<LevelTuple> levels(std::uint16_t instrument, bool bids) {
        std::vector<LevelTuple> out;
        normalizer_.books().for_each_level(instrument, side(bids),
                                           [&](std::uint32_t price, std::uint64_t size, std::uint32_t orders,
                                               std::uint32_t) { out.emplace_back(price, size, orders); });
        return out;
    }

    // References of the orders at a price, first in the queue first.
    std::vector<std::uint64_t> queue(std::uint16_t instrument, bool bids, std::uint32_t wanted) {
        std::vector<std::uint64_t> out;
        book::BookSet& books = normalizer_.books();
        books.for_each_level(instrument, side(bids),
                             [&](std::uint32_t price, std::uint64_t, std::uint32_t, std::uint32_t tail) {
                                 if (price != wanted) return;
                                 for (std::uint32_t h = tail; h != 0; h = books.order(h).previous) {
                                     out.push_back(books.order(h).reference);
                                 }
                             });
        std::reverse(out.begin(), out.end());
        return out;
    }

    std::optional<nb::dict> view(std::uint32_t instrument) const {
        return book_view(file_.data(), instrument);
    }

    std::optional<std::uint32_t> instrument(const std::string& symbol) const {
        return find_instrument(file_.data(), symbol);
    }
    std::string audit() { return book::audit(normalizer_.books()); }
    std::uint32_t sparse_references() const { return normalizer_.books().index().sparse_references(); }
    std::uint32_t index_pages() const { return normalizer_.books().index().pages_in_use(); }

  private:
    static std::vector<Message> spans(const std::vector<nb::bytes>& messages) {
        std::vector<Message> out;
        for (const nb::bytes& m : messages) {
            out.push_back(
                {reinterpret_cast<const std::uint8_t*>(m.c_str()), static_cast<std::uint16_t>(m.size())});
        }
        return out;
    }
    static record::NormalizerSettings settings(std::int64_t midnight_ns, std::vector<std::string> symbols,
                                               std::uint32_t orders, std::uint32_t pages, std::uint32_t nodes,
                                               bool trading_events) {
        record::NormalizerSettings out;
        out.midnight_ns = midnight_ns;
        out.symbols = std::move(symbols);
        out.limits = {orders, pages, nodes};
        out.trading_events = trading_events;
        return out;
    }
    static book::Side side(bool bids) { return bids ? book::Side::bid : book::Side::ask; }

    book::Reserved<std::byte> file_;
    record::BufferPublisher publisher_;
    record::Normalizer<record::BufferPublisher> normalizer_;
};

}  // namespace

void register_book(nb::module_& m) {
    nb::class_<BookNormalizer>(m, "BookNormalizer",
                               "Books and DBN records of messages handed in, for tests and inspection.")
        .def(nb::init<std::int64_t, std::vector<std::string>, std::uint32_t, int, std::uint32_t,
                      std::uint32_t, std::uint32_t, bool>(),
             nb::arg("midnight_ns") = 0, nb::arg("symbols") = std::vector<std::string>{},
             nb::arg("schema_mask") = 0x7F, nb::arg("state") = 1, nb::arg("orders") = 1u << 20,
             nb::arg("index_pages") = 1u << 10, nb::arg("deep_nodes") = 1u << 18,
             nb::arg("trading_events") = false)
        .def("apply", &BookNormalizer::apply, nb::arg("first_sequence"), nb::arg("messages"),
             nb::arg("ts_recv_ns") = 0, nb::arg("doubtful") = false,
             "Apply messages with consecutive numbers, as one packet. `doubtful`: its time is not trusted.")
        .def("announce", &BookNormalizer::announce, nb::arg("messages"),
             "What will be applied next, if all goes well; changes nothing but the time it takes.")
        .def("set_state", &BookNormalizer::set_state, "Set the feed's state (number of FeedState).")
        .def("clear", &BookNormalizer::clear, nb::arg("sequence"), nb::arg("ts_ns"),
             "Empty all books: messages were lost for good.")
        .def("take_records", &BookNormalizer::take_records, "Records since the last call: schema to bytes.")
        .def("counters", &BookNormalizer::counters, "Counter names to values.")
        .def("levels", &BookNormalizer::levels, nb::arg("instrument"), nb::arg("bids"),
             "All levels of a side, best first: (price with 4 implied decimals, size, orders).")
        .def("queue", &BookNormalizer::queue, nb::arg("instrument"), nb::arg("bids"), nb::arg("price"),
             "Order references at a price, first in the queue first.")
        .def("view", &BookNormalizer::view, nb::arg("instrument"),
             "The book as a reader of the shared table sees it.")
        .def("instrument", &BookNormalizer::instrument, nb::arg("symbol"),
             "Instrument id of a symbol, or None.")
        .def("audit", &BookNormalizer::audit, "What is inconsistent in the books; empty when nothing is.")
        .def_prop_ro("sparse_references", &BookNormalizer::sparse_references, "References held in the hash.")
        .def_prop_ro("index_pages", &BookNormalizer::index_pages, "Pages of the order index in use.");
    nb::dict lengths;
    for (const decode::TypeLength& entry : decode::type_lengths) {
        lengths[nb::str(std::string(1, static_cast<char>(entry.type)).c_str())] = entry.length;
    }
    m.attr("itch_message_lengths") = lengths;
}

}  // namespace fh::bind
