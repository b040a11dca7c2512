// Any bytes as a captured frame and as a MoldUDP64 datagram: nothing outside them is read, and what is
// accepted says all of them.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "frame/ethernet.hpp"
#include "frame/moldudp64.hpp"

namespace {

using namespace fh;
using namespace fh::frame;

void require(bool condition) {
    if (!condition) std::abort();
}

void check_mold(const std::uint8_t* data, std::size_t size) {
    static const auto messages = std::make_unique<Message[]>(mold_max_messages);
    const MoldPacket packet = parse_mold(data, size, messages.get());
    if (packet.kind == MoldKind::malformed) return;
    require(size >= mold_header_bytes && packet.end() >= packet.sequence);
    if (packet.kind != MoldKind::data) {
        require(packet.count == 0 && size == mold_header_bytes);
        return;
    }
    // Written again from what was read, it is the same datagram.
    std::vector<std::uint8_t> again(mold_header_bytes);
    char session[mold_session_bytes];
    std::memcpy(session, data, sizeof session);
    encode_mold_header(again.data(), session, packet.sequence, packet.count);
    for (std::size_t i = 0; i < packet.count; ++i) {
        std::uint8_t length[2];
        store_be16(length, messages[i].length);
        again.insert(again.end(), length, length + 2);
        again.insert(again.end(), messages[i].data, messages[i].data + messages[i].length);
    }
    require(again.size() == size && std::memcmp(again.data(), data, size) == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    check_mold(data, size);
    for (const LinkType link : {LinkType::bsd_loopback, LinkType::ethernet, LinkType::raw_ip,
                                LinkType::linux_cooked, LinkType::linux_cooked_v2, LinkType{9999}}) {
        const UdpDatagram udp = parse_frame(link, data, size);
        if (udp.refusal != Refusal::none) continue;
        require(udp.payload >= data + 28 && udp.length <= size && udp.payload + udp.length <= data + size);
        check_mold(udp.payload, udp.length);
    }
    return 0;
}
