// MoldUDP64 packets made and taken apart, for tests, simulators and servers in Python.
#include <nanobind/nanobind.h>

#include <memory>
#include <string>
#include <vector>

#include "bind/register.hpp"
#include "frame/ethernet.hpp"
#include "frame/moldudp64.hpp"

namespace nb = nanobind;

namespace fh::bind {
namespace {

void check_session(const nb::bytes& session) {
    if (session.size() != frame::mold_session_bytes)
        throw nb::value_error("a MoldUDP64 session has ten bytes");
}

nb::bytes encode_header(const nb::bytes& session, std::uint64_t sequence, std::uint16_t count) {
    check_session(session);
    std::uint8_t out[frame::mold_header_bytes];
    frame::encode_mold_header(out, session.c_str(), sequence, count);
    return nb::bytes(out, sizeof out);
}

nb::bytes encode_packet(const nb::bytes& session, std::uint64_t sequence, const nb::sequence& messages) {
    check_session(session);
    std::vector<std::uint8_t> out(frame::mold_header_bytes);
    std::size_t count = 0;
    for (nb::handle item : messages) {
        const auto message = nb::cast<nb::bytes>(item);
        if (message.size() > 0xFFFF) throw nb::value_error("a MoldUDP64 message has at most 65,535 bytes");
        std::uint8_t length[2];
        frame::store_be16(length, static_cast<std::uint16_t>(message.size()));
        out.insert(out.end(), length, length + 2);
        out.insert(out.end(), message.c_str(), message.c_str() + message.size());
        ++count;
    }
    if (count > frame::mold_max_messages || out.size() > max_udp_payload)
        throw nb::value_error("more than one datagram holds");
    frame::encode_mold_header(out.data(), session.c_str(), sequence, static_cast<std::uint16_t>(count));
    return nb::bytes(out.data(), out.size());
}

nb::object parse_packet(const nb::bytes& packet) {
    const auto room = std::make_unique_for_overwrite<Message[]>(frame::mold_max_messages);
    const auto* data = reinterpret_cast<const std::uint8_t*>(packet.c_str());
    const frame::MoldPacket parsed = frame::parse_mold(data, packet.size(), room.get());
    if (parsed.kind == frame::MoldKind::malformed) return nb::none();
    static constexpr const char* kinds[] = {"data", "heartbeat", "end_of_session"};
    nb::list messages;
    for (std::size_t i = 0; i < parsed.count; ++i) messages.append(nb::bytes(room[i].data, room[i].length));
    return nb::make_tuple(kinds[static_cast<std::size_t>(parsed.kind)],
                          nb::bytes(data, frame::mold_session_bytes), parsed.sequence, messages);
}

// (refusal, payload, source, source_port, destination, destination_port); addresses in host order.
nb::tuple parse_frame(std::uint16_t link_type, const nb::bytes& frame) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(frame.c_str());
    const frame::UdpDatagram udp =
        frame::parse_frame(static_cast<frame::LinkType>(link_type), data, frame.size());
    return nb::make_tuple(frame::refusal_names[static_cast<std::size_t>(udp.refusal)],
                          nb::bytes(udp.payload, udp.length), udp.source, udp.source_port, udp.destination,
                          udp.destination_port);
}

}  // namespace

void register_frame(nb::module_& m) {
    using namespace nb::literals;
    m.def("encode_mold_header", &encode_header, "session"_a, "sequence"_a, "count"_a,
          "20 bytes: a request (count wanted), a heartbeat (count 0) or an end of session (count 0xFFFF).");
    m.def("encode_mold_packet", &encode_packet, "session"_a, "sequence"_a, "messages"_a,
          "A data packet of these messages.");
    m.def("parse_mold_packet", &parse_packet, "packet"_a,
          "(kind, session, sequence, messages) with kind data, heartbeat or end_of_session; None when "
          "malformed.");
    m.def("parse_frame", &parse_frame, "link_type"_a, "frame"_a,
          "(refusal, payload, source, source_port, destination, destination_port) of a captured frame; "
          "refusal is none when it "
          "holds a whole UDP datagram over IPv4, else the reason. Addresses are integers in host order.");
}

}  // namespace fh::bind
