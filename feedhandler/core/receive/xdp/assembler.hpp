// Puts the instructions of an XDP program together.
#pragma once

#include <linux/bpf.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace fh::receive::xdp {

enum Register : std::uint8_t { r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, frame_pointer };

// Just enough of an assembler for programs whose end passes the frame to the kernel.
class Assembler {
  public:
    void move(Register to, Register from) { put(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
    void set(Register to, std::int32_t value) { put(BPF_ALU64 | BPF_MOV | BPF_K, to, r0, 0, value); }
    void add(Register to, std::int32_t value) { put(BPF_ALU64 | BPF_ADD, to, r0, 0, value); }
    void keep_bits(Register of, std::int32_t bits) { put(BPF_ALU64 | BPF_AND | BPF_K, of, r0, 0, bits); }
    void load(std::uint8_t size, Register to, Register at, std::size_t offset) {
        put(BPF_LDX | BPF_MEM | size, to, at, static_cast<std::int16_t>(offset), 0);
    }
    void store(std::uint8_t size, Register at, std::int16_t offset, Register from) {
        put(BPF_STX | BPF_MEM | size, at, from, offset, 0);
    }
    void store_value(std::uint8_t size, Register at, std::int16_t offset, std::int32_t value) {
        put(BPF_ST | BPF_MEM | size, at, r0, offset, value);
    }
    void load_map(Register to, int map) {  // takes two places
        put(BPF_LD | BPF_IMM | BPF_DW, to, static_cast<Register>(BPF_PSEUDO_MAP_FD), 0, map);
        put(0, r0, r0, 0, 0);
    }
    std::size_t load_map_later(Register to) {  // two places; whoever loads the program puts the map in
        put(BPF_LD | BPF_IMM | BPF_DW, to, r0, 0, 0);
        put(0, r0, r0, 0, 0);
        return code_.size() - 2;
    }
    void call(std::int32_t helper) { put(BPF_JMP | BPF_CALL, r0, r0, 0, helper); }
    void call_kernel(std::int32_t function) {
        put(BPF_JMP | BPF_CALL, r0, static_cast<Register>(BPF_PSEUDO_KFUNC_CALL), 0, function);
    }
    void leave() { put(BPF_JMP | BPF_EXIT, r0, r0, 0, 0); }

    // A jump forward, to where `land` is called with what this returns.
    std::size_t skip_if_greater(Register a, Register b) {
        put(BPF_JMP | BPF_JGT | BPF_X, a, b, 0, 0);
        return code_.size() - 1;
    }
    std::size_t skip_if_not(Register a, std::int32_t value) {
        put(BPF_JMP | BPF_JNE | BPF_K, a, r0, 0, value);
        return code_.size() - 1;
    }
    std::size_t skip_if_equal(Register a, std::int32_t value) {
        put(BPF_JMP | BPF_JEQ | BPF_K, a, r0, 0, value);
        return code_.size() - 1;
    }
    std::size_t skip_if_word_not(Register a, std::uint32_t value) {  // all 32 bits: others extend the sign
        put(BPF_JMP32 | BPF_JNE | BPF_K, a, r0, 0, static_cast<std::int32_t>(value));
        return code_.size() - 1;
    }
    void land(std::size_t jump) { code_[jump].off = static_cast<std::int16_t>(code_.size() - jump - 1); }

    void pass() { jump(BPF_JA, r0, r0, 0); }
    void pass_if_greater(Register a, Register b) { jump(BPF_JGT | BPF_X, a, b, 0); }
    void pass_if_equal(Register a, std::int32_t value) { jump(BPF_JEQ | BPF_K, a, r0, value); }
    void pass_if_not(Register a, std::int32_t value) { jump(BPF_JNE | BPF_K, a, r0, value); }

    std::vector<bpf_insn> finish() && {
        for (const std::size_t at : jumps_) code_[at].off = static_cast<std::int16_t>(code_.size() - at - 1);
        set(r0, XDP_PASS);
        leave();
        return std::move(code_);
    }

  private:
    void put(unsigned code, Register to, Register from, std::int16_t offset, std::int32_t value) {
        bpf_insn made{};
        made.code = static_cast<std::uint8_t>(code);
        made.dst_reg = to & 0xF;
        made.src_reg = from & 0xF;
        made.off = offset;
        made.imm = value;
        code_.push_back(made);
    }
    void jump(unsigned kind, Register a, Register b, std::int32_t value) {
        jumps_.push_back(code_.size());
        put(BPF_JMP | kind, a, b, 0, value);
    }

    std::vector<bpf_insn> code_;
    std::vector<std::size_t> jumps_;
};

}  // namespace fh::receive::xdp
