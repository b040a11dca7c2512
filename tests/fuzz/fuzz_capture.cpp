// Any bytes as a file to replay: whatever they are taken for, nothing outside them is read, every packet lies
// in the file or is made of its records, and the store gives back what the packets held.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "replay/input_binary.hpp"
#include "replay/input_capture.hpp"
#include "replay/packet_feed.hpp"
#include "replay/recognise.hpp"
#include "replay/scan.hpp"

namespace {

using namespace fh;
using namespace fh::replay;

void require(bool condition) {
    if (!condition) std::abort();
}

bool inside(receive::FileBytes file, const std::uint8_t* data, std::size_t length) {
    return data >= file.data() && data + length <= file.data() + file.size();
}

// Every frame lies in the file, and reading ends for a reason, at an offset of the file.
void check_frames(receive::FileBytes file) {
    receive::Capture capture(file);
    receive::Frame frame;
    while (capture.next(frame)) {
        require(inside(file, frame.data, frame.length));
        require(capture.offset() <= file.size());
    }
    require(capture.end() != receive::FileEnd::none && capture.offset() <= file.size());
    require(!capture.next(frame));
}

// What the store holds for a number is one whole block.
void check_store(const InputSession& session) {
    std::vector<std::uint8_t> blocks;
    for (const Run& run : session.store.runs()) {
        blocks.assign(frame::mold_header_bytes, 0);
        const auto count = session.store.copy(run.first, run.count, mtu_payload, blocks).count;
        require(count >= 1 && blocks.size() >= frame::mold_header_bytes + 2u * count);
        frame::encode_mold_header(blocks.data(), session.name.data(), run.first, count);
        static std::vector<Message> messages(frame::mold_max_messages);
        require(frame::parse_mold(blocks.data(), blocks.size(), messages.data()).count == count);
    }
}

void check_input(receive::FileBytes file, Input& input, std::size_t lines) {
    Scanner scanner(input, {0});
    while (scanner.step(100)) {
    }
    const Scan scan = scanner.finish();
    require(scan.input_end.end != receive::FileEnd::none && scan.input_end.offset <= file.size());
    for (const InputSession& session : scan.sessions) {
        require(session.first >= 1 && session.end >= session.first);
        check_store(session);
    }
    if (scan.sessions.empty()) return;
    // A second reading gives the same packets, through lines with faults.
    PacketFeed feed(input, scan, lines, lines == 1, {.drop = 0.1, .reorder = 0.1, .corrupt = 0.1}, 1);
    std::uint64_t out = 0;
    const auto count = [&](const Datagram& datagram) {
        require(datagram.length <= max_udp_payload);
        ++out;
    };
    do {
        if (feed.at_new_session()) feed.open_session();
    } while (feed.next(count));
    feed.end_session(count);
    require(feed.packets_played() == scan.packets);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const receive::FileBytes file(data, size);
    const auto kind = recognise(file);
    if (kind == "capture") {
        check_frames(file);
        GroupFinder finder(file);
        while (finder.step(100)) {
        }
        std::vector<Group> groups;
        for (const GroupSeen& seen : finder.groups()) {
            if (groups.size() < 2) groups.push_back(seen.group);
        }
        if (groups.empty()) return 0;
        const std::size_t lines = groups.size();
        CaptureInput input(file, std::move(groups));
        check_input(file, input, lines);
    } else if (kind == "binary") {
        BinaryInput input(file, 1'000'000'000'000'000'000);
        check_input(file, input, 1);
    }
    return 0;
}
