// The filter for DPDK's driver net_af_xdp, as the ELF object that it wants to load: the lines are constants
// in the code, since the driver hands out no map of the object but the sockets' one. Written here, byte by
// byte: neither compiler nor libelf is needed where feedhandler runs.
#pragma once

#include <arpa/inet.h>
#include <elf.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "receive/device_lines.hpp"
#include "receive/multicast.hpp"
#include "receive/udp_receiver.hpp"

namespace fh::receive::dpdk {

// By it our program is known where one was left behind. At most 15 characters: the kernel keeps no more.
inline constexpr const char* filter_name = "fh_dpdk_lines";

namespace detail {

using Bytes = std::vector<std::uint8_t>;

template <class T>
void append(Bytes& out, const T& value) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof(value));
}

// Names one behind the other, each found by its offset: as ELF and BTF have them.
class Names {
  public:
    std::uint32_t add(std::string_view name) {
        const auto at = static_cast<std::uint32_t>(bytes_.size());
        bytes_.insert(bytes_.end(), name.begin(), name.end());
        bytes_.push_back(0);
        return at;
    }
    const Bytes& bytes() const { return bytes_; }

  private:
    Bytes bytes_{0};
};

enum Register : std::uint8_t { r0, r1, r2, r3, r4, r5, r6, r7, r8 };

struct FilterCode {
    std::vector<bpf_insn> code;
    std::size_t map_at = 0;  // the instruction that wants the map of the sockets

    void put(unsigned operation, Register to, Register from, std::int16_t offset, std::uint32_t value) {
        bpf_insn made{};
        made.code = static_cast<std::uint8_t>(operation);
        made.dst_reg = to & 0xF;
        made.src_reg = from & 0xF;
        made.off = offset;
        made.imm = static_cast<std::int32_t>(value);
        code.push_back(made);
    }
};

// To a socket: UDP to group and port of a line, and whatever else of UDP goes to a group and may be a line's:
// fragments, which are counted, and packets with IP options. Everything else is the kernel's, IGMP above all.
inline FilterCode filter_code(const LineTable& lines) {
    constexpr std::size_t ip = 14, udp = ip + 20, payload = udp + 8;
    constexpr std::int16_t to_pass = 0x7FFF, to_redirect = 0x7FFE;  // until their places are known
    constexpr unsigned load = BPF_LDX | BPF_MEM, differs = BPF_JMP32 | BPF_JNE | BPF_K,
                       is_same = BPF_JMP32 | BPF_JEQ | BPF_K, set = BPF_ALU64 | BPF_MOV | BPF_K;
    FilterCode out;
    out.put(BPF_ALU64 | BPF_MOV | BPF_X, r6, r1, 0, 0);
    out.put(load | BPF_W, r2, r1, offsetof(xdp_md, data), 0);
    out.put(load | BPF_W, r3, r1, offsetof(xdp_md, data_end), 0);
    out.put(BPF_ALU64 | BPF_MOV | BPF_X, r4, r2, 0, 0);
    out.put(BPF_ALU64 | BPF_ADD, r4, r0, 0, payload);  // BPF_K is 0 too
    out.put(BPF_JMP | BPF_JGT | BPF_X, r4, r3, to_pass, 0);
    out.put(load | BPF_H, r4, r2, 12, 0);  // all values are in network order
    out.put(differs, r4, r0, to_pass, htons(0x0800));
    out.put(load | BPF_B, r4, r2, ip + 9, 0);
    out.put(differs, r4, r0, to_pass, IPPROTO_UDP);
    out.put(load | BPF_B, r8, r2, ip, 0);
    out.put(load | BPF_H, r7, r2, ip + 6, 0);
    out.put(BPF_ALU64 | BPF_AND | BPF_K, r7, r0, 0, htons(0x3FFF));
    out.put(load | BPF_W, r5, r2, ip + 16, 0);
    out.put(load | BPF_H, r4, r2, udp + 2, 0);
    for (const LineTable::Entry& line : lines.entries()) {
        out.put(differs, r5, r0, 3, htonl(line.group));
        out.put(differs, r7, r0, to_redirect, 0);
        out.put(differs, r8, r0, to_redirect, 0x45);
        out.put(is_same, r4, r0, to_redirect, htons(line.port));
    }
    const std::size_t pass = out.code.size();
    out.put(set, r0, r0, 0, XDP_PASS);
    out.put(BPF_JMP | BPF_EXIT, r0, r0, 0, 0);
    const std::size_t redirect = out.map_at = out.code.size();
    out.put(BPF_LD | BPF_IMM | BPF_DW, r1, r0, 0, 0);  // takes two places; who loads it puts the map in
    out.put(0, r0, r0, 0, 0);
    out.put(load | BPF_W, r2, r6, offsetof(xdp_md, rx_queue_index), 0);
    out.put(set, r3, r0, 0, XDP_PASS);  // when there is no socket on the queue
    out.put(BPF_JMP | BPF_CALL, r0, r0, 0, BPF_FUNC_redirect_map);
    out.put(BPF_JMP | BPF_EXIT, r0, r0, 0, 0);
    for (std::size_t at = 0; at < out.code.size(); ++at) {
        std::int16_t& offset = out.code[at].off;
        if (offset == to_pass) offset = static_cast<std::int16_t>(pass - at - 1);
        if (offset == to_redirect) offset = static_cast<std::int16_t>(redirect - at - 1);
    }
    return out;
}

// The type that libbpf reads a map's properties from: a struct of pointers to arrays, whose lengths are the
// values.
inline constexpr std::uint32_t map_bytes = 4 * 8;
inline Bytes map_types(std::uint32_t queues) {
    Names names;
    Bytes types;
    const auto begin = [&](std::string_view name, unsigned kind, unsigned members, std::uint32_t size) {
        append(types, btf_type{name.empty() ? 0 : names.add(name), kind << 24 | members, {size}});
    };
    constexpr std::uint32_t an_int = 1;
    std::uint32_t last = an_int;
    begin("int", BTF_KIND_INT, 0, 4);
    append(types, std::uint32_t{BTF_INT_SIGNED << 24 | 32});
    std::uint32_t properties[4];
    const std::uint32_t values[4] = {BPF_MAP_TYPE_XSKMAP, 4, 4, queues};
    for (std::size_t i = 0; i < 4; ++i) {
        begin("", BTF_KIND_ARRAY, 0, 0);
        append(types, btf_array{an_int, an_int, values[i]});
        ++last;
        begin("", BTF_KIND_PTR, 0, last);
        properties[i] = ++last;
    }
    begin("", BTF_KIND_STRUCT, 4, map_bytes);
    const char* const members[4] = {"type", "key_size", "value_size", "max_entries"};
    for (std::uint32_t i = 0; i < 4; ++i)
        append(types, btf_member{names.add(members[i]), properties[i], 64 * i});
    ++last;
    begin("xsks_map", BTF_KIND_VAR, 0, last);
    append(types, btf_var{BTF_VAR_GLOBAL_ALLOCATED});
    ++last;
    begin(".maps", BTF_KIND_DATASEC, 1, map_bytes);
    append(types, btf_var_secinfo{last, 0, map_bytes});
    btf_header header{};
    header.magic = BTF_MAGIC;
    header.version = BTF_VERSION;
    header.hdr_len = sizeof(header);
    header.type_len = header.str_off = static_cast<std::uint32_t>(types.size());
    header.str_len = static_cast<std::uint32_t>(names.bytes().size());
    Bytes out;
    append(out, header);
    out.insert(out.end(), types.begin(), types.end());
    out.insert(out.end(), names.bytes().begin(), names.bytes().end());
    return out;
}

}  // namespace detail

// The object's bytes, for a device with so many receive queues.
inline std::vector<std::uint8_t> filter_object(const LineTable& lines, std::uint32_t queues) {
    using detail::Bytes, detail::append;
    enum Section : std::uint16_t {
        none,
        names_at,
        symbols_at,
        code_at,
        relocations_at,
        maps_at,
        license_at,
        types_at,
        section_count
    };
    const detail::FilterCode filter = detail::filter_code(lines);
    detail::Names names;
    Bytes contents[section_count];
    for (const bpf_insn& one : filter.code) append(contents[code_at], one);
    contents[maps_at].resize(detail::map_bytes);
    contents[types_at] = detail::map_types(queues);
    for (const char letter : std::string_view("MIT\0", 4)) append(contents[license_at], letter);
    append(contents[symbols_at], Elf64_Sym{});
    append(contents[symbols_at], Elf64_Sym{names.add(filter_name), ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0,
                                           code_at, 0, contents[code_at].size()});
    append(contents[symbols_at], Elf64_Sym{names.add("xsks_map"), ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), 0,
                                           maps_at, 0, detail::map_bytes});
    constexpr std::uint32_t relocate_64 = 1;  // R_BPF_64_64
    append(contents[relocations_at],
           Elf64_Rel{filter.map_at * sizeof(bpf_insn), ELF64_R_INFO(2, relocate_64)});
    Elf64_Shdr sections[section_count]{};
    const auto section = [&](Section which, const char* name, std::uint32_t type, std::uint64_t flags,
                             std::uint32_t link, std::uint32_t info, std::uint64_t entry) {
        sections[which] = {names.add(name), type, flags, 0, 0, 0, link, info, 8, entry};
    };
    section(names_at, ".strtab", SHT_STRTAB, 0, 0, 0, 0);
    section(symbols_at, ".symtab", SHT_SYMTAB, 0, names_at, 1, sizeof(Elf64_Sym));
    section(code_at, "xdp", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 0, 0, 0);
    section(relocations_at, ".relxdp", SHT_REL, 0, symbols_at, code_at, sizeof(Elf64_Rel));
    section(maps_at, ".maps", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 0, 0, 0);
    section(license_at, "license", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 0, 0, 0);
    section(types_at, ".BTF", SHT_PROGBITS, 0, 0, 0, 0);
    contents[names_at] = names.bytes();

    Elf64_Ehdr header{};
    for (std::size_t i = 0; i < SELFMAG; ++i) header.e_ident[i] = static_cast<unsigned char>(ELFMAG[i]);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_REL;
    header.e_machine = EM_BPF;
    header.e_version = EV_CURRENT;
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = section_count;
    header.e_shstrndx = names_at;
    Bytes out(sizeof(header));
    for (std::size_t i = names_at; i < section_count; ++i) {
        out.resize((out.size() + 7) / 8 * 8);
        sections[i].sh_offset = out.size();
        sections[i].sh_size = contents[i].size();
        out.insert(out.end(), contents[i].begin(), contents[i].end());
    }
    out.resize((out.size() + 7) / 8 * 8);
    header.e_shoff = out.size();
    for (const Elf64_Shdr& one : sections) append(out, one);
    std::memcpy(out.data(), &header, sizeof(header));
    return out;
}

// The object as a file without a name, for as long as this lives.
class FilterFile {
  public:
    explicit FilterFile(const std::vector<std::uint8_t>& object)
        : file_(memfd_create(filter_name, MFD_CLOEXEC)) {
        require(file_.get() >= 0 &&
                    write(file_.get(), object.data(), object.size()) == static_cast<ssize_t>(object.size()),
                "the filter's object");
    }
    std::string path() const { return "/proc/self/fd/" + std::to_string(file_.get()); }

  private:
    Descriptor file_;
};

}  // namespace fh::receive::dpdk
