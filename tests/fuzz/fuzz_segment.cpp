// A journal's segment with a torn or damaged tail: exactly the whole records before the damage are read, and
// nothing outside the file. Input: a byte that chooses; then either the file as it is, or the sizes of
// packets that are written as the journal writes them, and what becomes of the file.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "journal/segment.hpp"

namespace {

using namespace fh;
using Bytes = std::vector<std::uint8_t>;

void require(bool condition) {
    if (!condition) std::abort();
}

// In memory of its own size, so that reading past its end is seen.
journal::Extent extent_of(const Bytes& file) {
    const std::vector<std::uint8_t> exact(file);
    const journal::Extent out = journal::extent_of({exact.data(), exact.size()});
    require(out.bytes <= exact.size() && (out.packets == 0 || out.bytes > journal::pcap_header));
    return out;
}

// What is read of a file is read of its part again, and nothing more of it when more rubbish follows.
void check_any(const Bytes& file) {
    const journal::Extent extent = extent_of(file);
    Bytes part(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(extent.bytes));
    if (extent.bytes == 0) return;
    require(extent_of(part).bytes == extent.bytes && extent_of(part).packets == extent.packets);
    part.resize(part.size() + 100);
    require(extent_of(part).bytes == extent.bytes);
}

void append(Bytes& file, const publish::PacketHeader& packet, const std::uint8_t* payload) {
    const std::uint32_t length = static_cast<std::uint32_t>(journal::frame_headers) + packet.payload;
    const auto ts = static_cast<std::uint64_t>(packet.ts_recv_ns);
    const std::uint32_t words[4] = {static_cast<std::uint32_t>(ts / 1'000'000'000),
                                    static_cast<std::uint32_t>(ts % 1'000'000'000), length, length};
    const std::size_t at = file.size();
    file.resize(at + journal::pcap_record + length);
    std::memcpy(&file[at], words, sizeof words);
    journal::put_frame(&file[at + journal::pcap_record], reinterpret_cast<const std::uint8_t*>(words), packet,
                       payload, {0xEF010203, 0x7F000001, 26400, {}});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 8) return 0;
    const std::uint8_t how = data[0];
    const std::size_t where = data[1] * 256u + data[2];
    const std::uint8_t change = data[3];
    data += 4, size -= 4;
    Bytes file(journal::pcap_header);
    journal::put_pcap_header(file.data());
    if (how % 4 == 0) {
        file.insert((how & 4) != 0 ? file.end() : file.begin(), data, data + size);
        check_any(file);
        return 0;
    }
    std::vector<std::size_t> ends{file.size()};
    std::int64_t ts = 1'763'600'000'999'999'000;
    for (std::size_t at = 0; at < size; ++at) {
        const auto payload = static_cast<std::uint16_t>(std::min<std::size_t>(data[at], size - at));
        const auto line = static_cast<std::uint8_t>(data[at] % (max_lines + max_servers));
        append(file, {0, payload, line, TimestampKind::kernel, ts += data[at]}, data + at);
        ends.push_back(file.size());
    }
    require(extent_of(file).bytes == file.size() && extent_of(file).packets == ends.size() - 1);
    const std::size_t at = journal::pcap_header + where % (file.size() - journal::pcap_header);
    std::size_t whole = 0;  // packets before the damage
    while (whole + 1 < ends.size() && ends[whole + 1] <= at) ++whole;
    if (how % 4 == 1) {
        file.resize(at);
    } else if (how % 4 == 2) {  // one byte: whichever, the sums tell
        if (change == 0) return 0;
        file[at] = static_cast<std::uint8_t>(file[at] ^ change);
    } else {                    // never written: zeros from there on
        std::uint64_t sum = 0;  // of 16-bit words, as the checksums see them: 0xFFFF is to them what 0 is
        for (std::size_t i = at; i < ends[whole + 1]; ++i)
            sum += std::uint64_t{file[i]} << ((i - ends[whole]) % 2 == 0 ? 8 : 0);
        if (sum % 0xFFFF == 0) return 0;
        std::fill(file.begin() + static_cast<std::ptrdiff_t>(at), file.end(), std::uint8_t{0});
    }
    const journal::Extent extent = extent_of(file);
    require(extent.packets == whole && extent.bytes == ends[whole]);
    return 0;
}
