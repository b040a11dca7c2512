// Books as a reader of the shared table sees them, and records taken from a buffer.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "book/table_reader.hpp"
#include "record/buffer_publisher.hpp"
#include "record/dbn.hpp"

namespace fh::bind {

inline nanobind::list side_list(const std::array<BookLevel, book::view_levels>& levels, std::uint32_t count) {
    nanobind::list out;
    for (std::uint32_t i = 0; i < count; ++i) {
        out.append(nanobind::make_tuple(levels[i].price, levels[i].size, levels[i].orders));
    }
    return out;
}

inline std::optional<nanobind::dict> book_view(const std::byte* books_file, std::uint32_t instrument) {
    BookView view;
    const ReadResult result = read_book(books_file, instrument, view);
    if (result == ReadResult::no_such_instrument) return std::nullopt;
    if (result == ReadResult::torn) throw std::runtime_error("the writer is inside a change");
    nanobind::dict out;
    out["sequence"] = view.sequence;
    out["ts_event_ns"] = view.ts_event_ns;
    out["bids"] = side_list(view.bids, view.bid_count);
    out["asks"] = side_list(view.asks, view.ask_count);
    out["trading_status"] = view.trading_status == 0 ? std::string{} : std::string(1, view.trading_status);
    out["incomplete"] = view.incomplete;
    return out;
}

// Schema to bytes; the buffers are empty afterwards.
inline nanobind::dict take_records(record::BufferPublisher& publisher) {
    nanobind::dict out;
    for (std::size_t i = 0; i <= dbn::schema_count; ++i) {  // the last is `event`
        auto& buffer = publisher.buffer(static_cast<dbn::Schema>(i));
        out[dbn::schema_names[i]] =
            nanobind::bytes(reinterpret_cast<const char*>(buffer.data()), buffer.size());
        buffer.clear();
    }
    return out;
}

}  // namespace fh::bind
