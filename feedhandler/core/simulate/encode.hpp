// ITCH 5.0 messages as a BinaryFILE record: u16 length, then the message. A MoldUDP64 message block has the
// same form, so packets are cut out of the same bytes.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace fh::simulate {

// Length by message type, 0 = no such type (itch50: message index).
inline constexpr std::array<std::uint8_t, 128> message_lengths = [] {
    std::array<std::uint8_t, 128> lengths{};
    constexpr std::string_view types = "SRHYLVWKJhAFECXDUPQBINO";
    constexpr std::uint8_t sizes[] = {12, 39, 25, 20, 26, 35, 12, 28, 35, 21, 36, 40,
                                      31, 36, 23, 19, 35, 44, 40, 19, 50, 20, 48};
    for (std::size_t i = 0; i < types.size(); ++i) lengths[static_cast<unsigned char>(types[i])] = sizes[i];
    return lengths;
}();
inline constexpr std::size_t max_record = 2 + 50;  // bytes

// Fields of one message, written one after the other; the caller names the type and fills it to its length.
class Fields {
  public:
    explicit Fields(std::uint8_t* at) : at_(at) {}
    Fields& u8(std::uint8_t v) {
        *at_++ = v;
        return *this;
    }
    Fields& c(char v) { return u8(static_cast<std::uint8_t>(v)); }
    Fields& u16(std::uint16_t v) { return put(__builtin_bswap16(v)); }
    Fields& u32(std::uint32_t v) { return put(__builtin_bswap32(v)); }
    Fields& u64(std::uint64_t v) { return put(__builtin_bswap64(v)); }
    // Text, already padded to its width by the caller's literal or array.
    template <std::size_t N>
    Fields& text(const char (&v)[N]) {
        std::memcpy(at_, v, N - 1);
        at_ += N - 1;
        return *this;
    }
    Fields& name(const std::array<char, 8>& v) {
        std::memcpy(at_, v.data(), 8);
        at_ += 8;
        return *this;
    }

  private:
    template <class T>
    Fields& put(T v) {
        std::memcpy(at_, &v, sizeof v);
        at_ += sizeof v;
        return *this;
    }
    std::uint8_t* at_;
};

// The messages written since the last `take`, as records back to back, with counts by type.
class Output {
  public:
    explicit Output(std::size_t capacity) : bytes_(capacity) {}

    // Makes room for `messages` more; only an unusually large event ever allocates.
    void ensure(std::size_t messages) {
        if (bytes_.size() - size_ < messages * max_record)
            bytes_.resize(2 * bytes_.size() + messages * max_record);
    }

    Fields message(char type, std::uint16_t locate, std::uint16_t tracking, std::uint64_t timestamp_ns) {
        const std::uint16_t length = message_lengths[static_cast<unsigned char>(type)];
        Fields fields(&bytes_[size_]);
        size_ += 2u + length;
        ++total_;
        ++counts_[static_cast<unsigned char>(type)];
        fields.u16(length).c(type).u16(locate).u16(tracking);
        fields.u16(static_cast<std::uint16_t>(timestamp_ns >> 32))
            .u32(static_cast<std::uint32_t>(timestamp_ns));
        return fields;
    }

    void clear() { size_ = 0; }
    const std::uint8_t* data() const { return bytes_.data(); }
    std::size_t size() const { return size_; }
    std::uint64_t total() const { return total_; }
    std::uint64_t count(char type) const { return counts_[static_cast<unsigned char>(type)]; }

  private:
    std::vector<std::uint8_t> bytes_;
    std::size_t size_ = 0;
    std::uint64_t total_ = 0;
    std::array<std::uint64_t, 128> counts_{};
};

}  // namespace fh::simulate
