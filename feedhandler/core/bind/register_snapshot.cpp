#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <stdexcept>
#include <string_view>
#include <vector>

#include "bind/register.hpp"
#include "snapshot/download.hpp"
#include "snapshot/image_writer.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace fh::bind {

namespace {

// Message blocks as on the wire (u16 big-endian length, message), which must end with the last.
void apply_blocks(snapshot::ImageWriter& self, std::uint64_t first, std::uint32_t count, nb::bytes blocks) {
    if (first != self.next_sequence()) throw nb::value_error("first: not the next number");
    const auto* p = reinterpret_cast<const std::uint8_t*>(blocks.c_str());
    const auto* const end = p + blocks.size();
    nb::gil_scoped_release unlocked;
    for (; count > 0; --count) {
        if (end - p < 2) throw std::invalid_argument("blocks: cut short");
        const auto length = static_cast<std::uint16_t>(p[0] << 8 | p[1]);
        if (end - p < 2 + length) throw std::invalid_argument("blocks: cut short");
        self.apply({p + 2, length});
        p += 2 + length;
    }
}

nb::bytes image(snapshot::ImageWriter& self) {
    std::vector<std::uint8_t> out;
    {
        nb::gil_scoped_release unlocked;
        out = self.image();
    }
    return nb::bytes(out.data(), out.size());
}

nb::bytes take_output(snapshot::Download& self) {
    nb::bytes out(self.output().data(), self.output().size());
    self.sent(out.size());
    return out;
}

}  // namespace

void register_snapshot(nb::module_& m) {
    nb::class_<snapshot::ImageWriter>(
        m, "SnapshotImage", "Books that follow a feed, and their image for a snapshot server (GLIMPSE 5.0).")
        .def(nb::init<>())
        .def("apply", &apply_blocks, "first_sequence"_a, "count"_a, "blocks"_a,
             "Apply `count` message blocks as on the wire, numbered from `next_sequence`.")
        .def("image", &image,
             "SoupBinTCP packets of sequenced data: R, S, H, Y, h, N, each displayed order as A or F, and G "
             "with next_sequence.")
        .def_prop_ro("next_sequence", &snapshot::ImageWriter::next_sequence)
        .def_prop_ro("complete", &snapshot::ImageWriter::complete)
        .def_prop_ro("orders", &snapshot::ImageWriter::orders);
    nb::class_<snapshot::Download>(
        m, "SnapshotDownload",
        "One snapshot on its way to the feed: bytes and time in, books or a reason "
        "why there are none out.")
        .def(
            "__init__",
            [](snapshot::Download* self, std::string_view username, std::string_view password,
               std::string_view session, std::int64_t midnight_ns, std::int64_t now_ns) {
                new (self)
                    snapshot::Download(username, password, session, book::BookLimits{}, midnight_ns, now_ns);
            },
            "username"_a, "password"_a, "session"_a, "midnight_ns"_a, "now_ns"_a)
        .def("take_output", &take_output, "What is to be sent to the server.")
        .def(
            "on_bytes",
            [](snapshot::Download& self, nb::bytes data, std::int64_t now_ns) {
                self.on_bytes({reinterpret_cast<const std::uint8_t*>(data.c_str()), data.size()}, now_ns);
            },
            "data"_a, "now_ns"_a, "What the server sent.")
        .def("on_timer", &snapshot::Download::on_timer, "now_ns"_a)
        .def_prop_ro("done", &snapshot::Download::done)
        .def_prop_ro("failure", &snapshot::Download::failure,
                     "Why there are no books; empty: no failure yet.")
        .def_prop_ro("number", &snapshot::Download::number, "What G told; when done.");
}

}  // namespace fh::bind
