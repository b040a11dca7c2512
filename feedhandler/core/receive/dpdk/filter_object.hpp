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
#include <utility>
#include <vector>

#include "receive/device_lines.hpp"
#include "receive/multicast.hpp"
#include "receive/udp_receiver.hpp"
#include "receive/xdp/assembler.hpp"

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

struct FilterCode {
    std::vector<bpf_insn> code;
    std::size_t map_at = 0;  // the instruction that wants the map of the sockets
};

// To a socket: UDP to group and port of a line, and whatever else of UDP goes to a group and may be a line's:
// fragments, which are counted, and packets with IP options. Everything else is the kernel's, IGMP above all.
inline FilterCode filter_code(const LineTable& lines) {
    using namespace xdp;  // the registers
    constexpr std::size_t ip = 14, udp = ip + 20, payload = udp + 8;
    Assembler code;
    code.move(r6, r1);
    code.load(BPF_W, r2, r1, offsetof(xdp_md, data));
    code.load(BPF_W, r3, r1, offsetof(xdp_md, data_end));
    code.move(r4, r2);
    code.add(r4, payload);
    code.pass_if_greater(r4, r3);
    code.load(BPF_H, r4, r2, 12);  // all values are in network order
    code.pass_if_not(r4, htons(0x0800));
    code.load(BPF_B, r4, r2, ip + 9);
    code.pass_if_not(r4, IPPROTO_UDP);
    code.load(BPF_B, r8, r2, ip);
    code.load(BPF_H, r7, r2, ip + 6);
    code.keep_bits(r7, htons(0x3FFF));
    code.load(BPF_W, r5, r2, ip + 16);
    code.load(BPF_H, r4, r2, udp + 2);
    std::vector<std::size_t> wanted;
    for (const LineTable::Entry& line : lines.entries()) {
        const std::size_t other_group = code.skip_if_word_not(r5, htonl(line.group));
        wanted.push_back(code.skip_if_not(r7, 0));
        wanted.push_back(code.skip_if_not(r8, 0x45));
        wanted.push_back(code.skip_if_equal(r4, htons(line.port)));
        code.land(other_group);
    }
    code.pass();
    for (const std::size_t jump : wanted) code.land(jump);
    const std::size_t map_at = code.load_map_later(r1);
    code.load(BPF_W, r2, r6, offsetof(xdp_md, rx_queue_index));
    code.set(r3, XDP_PASS);  // when there is no socket on the queue
    code.call(BPF_FUNC_redirect_map);
    code.leave();
    return {std::move(code).finish(), map_at};
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
