// Functions of the kernel that an XDP program may call go by their number in the kernel's own description of
// itself (BTF).
#pragma once

#include <linux/btf.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fh::receive::xdp {

namespace detail {

// Bytes behind a type of this kind; nothing for a kind that this program does not know.
inline std::optional<std::size_t> btf_extra_bytes(unsigned kind, std::size_t members) {
    constexpr unsigned type_tag = 18, enum64 = 19;  // younger than some headers
    switch (kind) {
        case BTF_KIND_INT:
        case BTF_KIND_VAR:
        case BTF_KIND_DECL_TAG:
            return 4;
        case BTF_KIND_ARRAY:
            return sizeof(btf_array);
        case BTF_KIND_STRUCT:
        case BTF_KIND_UNION:
        case BTF_KIND_DATASEC:
        case enum64:
            return members * 12;
        case BTF_KIND_ENUM:
        case BTF_KIND_FUNC_PROTO:
            return members * 8;
        case BTF_KIND_PTR:
        case BTF_KIND_FWD:
        case BTF_KIND_TYPEDEF:
        case BTF_KIND_VOLATILE:
        case BTF_KIND_CONST:
        case BTF_KIND_RESTRICT:
        case BTF_KIND_FUNC:
        case BTF_KIND_FLOAT:
        case type_tag:
            return 0;
        default:
            return std::nullopt;
    }
}

}  // namespace detail

// Number of the function in this BTF; 0: it is not there, or the data cannot be read.
inline std::int32_t function_in(std::span<const char> btf, std::string_view name) {
    btf_header header;
    if (btf.size() < sizeof(header)) return 0;
    std::memcpy(&header, btf.data(), sizeof(header));
    const auto part = [&](std::uint64_t offset, std::uint64_t length) {
        offset += header.hdr_len;
        return offset + length <= btf.size() ? btf.subspan(offset, length) : std::span<const char>();
    };
    if (header.magic != BTF_MAGIC) return 0;
    const std::span<const char> texts = part(header.str_off, header.str_len);
    std::span<const char> types = part(header.type_off, header.type_len);
    const auto is_named = [&](std::uint32_t offset) {
        return offset + name.size() < texts.size() && texts[offset + name.size()] == '\0' &&
               std::string_view(texts.data() + offset, name.size()) == name;
    };
    for (std::int32_t number = 1; types.size() >= sizeof(btf_type); ++number) {
        btf_type type;
        std::memcpy(&type, types.data(), sizeof(type));
        const unsigned kind = BTF_INFO_KIND(type.info);
        if (kind == BTF_KIND_FUNC && is_named(type.name_off)) return number;
        const auto extra = detail::btf_extra_bytes(kind, BTF_INFO_VLEN(type.info));
        if (!extra || types.size() - sizeof(type) < *extra) return 0;
        types = types.subspan(sizeof(type) + *extra);
    }
    return 0;
}

inline std::int32_t kernel_function(std::string_view name,
                                    const std::string& file = "/sys/kernel/btf/vmlinux") {
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> btf{std::istreambuf_iterator<char>(in), {}};
    return function_in(btf, name);
}

}  // namespace fh::receive::xdp
