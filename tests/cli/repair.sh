#!/usr/bin/env bash
# repair.sh: cache repair on a store with damaged records: they come back to the byte, and only they.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens
ids=$work/ids.u16 held_out=$work/held.u16
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 4000)' | tee "$held_out" >"$ids"
run 0 extract --model "$tiny" --corpus "$ids" --held-out-corpus "$held_out" --held-out-tokens 600 --seq-len 128 \
    --taps 0,1,1.mid,final --out "$work/whole" || exit 1

# flip STORE OFFSET TAP...: one bit, so many bytes behind the beginning of a record; a tap is LAYER/MID/SPLIT/INDEX
flip() {
    perl -e '
        my ($path, $offset, @wanted) = @ARGV;
        open my $file, "+<:raw", $path or die; local $/; my $bytes = <$file>;
        for (@wanted) {
            my ($layer, $mid, $split, $index) = split m{/};
            my $pattern = "OFRR" . "." x 14 . quotemeta(pack "CCVQ<", $mid, $split, $layer, $index);
            $bytes =~ /$pattern/sg or die "no record $_";
            my $at = $-[0] + $offset;
            seek $file, $at, 0; print $file chr(ord(substr $bytes, $at, 1) ^ 4); pos($bytes) = 0;
        }' "$1/data.mdb" "${@:2}"
}

fresh() { rm -rf "$work/broken" && cp -r "$work/whole" "$work/broken"; }

# The stores export the same states at every tap, and verify has nothing to say.
same_stores() {
    local tap
    run 0 cache verify "$1" "$2" || return 1
    for tap in 0 1 1.mid final target; do
        run 0 cache export --tap "$tap" --out "$work/a" "$1" && run 0 cache export --tap "$tap" --out "$work/b" "$2" &&
            cmp "$work/a" "$work/b" || return 1
    done
}

nothing_to_repair() {
    fresh && run 0 cache repair --model "$tiny" "$work/broken" && says out ": 0 records were computed again, 0 problems" &&
        cmp "$work/whole/data.mdb" "$work/broken/data.mdb"
}

# Two taps of one sequence, one of another, one held out: in payloads and in a header.
damaged_records() {
    fresh && flip "$work/broken" 90 1/0/0/7 2/0/0/7 1/1/0/24 0/0/1/3 && flip "$work/broken" 30 2/0/1/2 &&
        run 1 cache verify "$work/broken" && says out "tap 0, held-out sequence 3: the record is damaged" &&
        run 0 cache repair --model "$tiny" "$work/broken" && says out ": 5 records were computed again, 0 problems" &&
        [ -e "$work/broken/sealed" ] && same_stores "$work/whole" "$work/broken"
}

# Whatever command meets the damage says what mends it.
named() {
    local command
    fresh && flip "$work/broken" 90 1/0/0/7 || return 1
    for command in "export --tap 1 --out $work/no" "merge --out $work/no.merge" "recode --codec raw:f32 --out $work/no.recode"; do
        run 1 cache $command "$work/broken" && says err "the record is damaged" && says err '`cache repair` mends it' || return 1
    done
}

# The target alone, and one beside the states it is made of.
damaged_targets() {
    fresh && flip "$work/broken" 90 3/0/0/7 3/0/1/2 2/0/1/2 && flip "$work/broken" 3000 3/0/0/20 &&
        run 1 cache verify "$work/broken" && says out "tap target, train sequence 7: the record is damaged" &&
        says out "tap target, held-out sequence 2" && says out "tap target, train sequence 20" &&
        run 0 cache repair --model "$tiny" "$work/broken" && says out ": 4 records were computed again, 0 problems" &&
        same_stores "$work/whole" "$work/broken"
}

# Flags and number that LMDB keeps before a large value, which it would believe when it frees the pages.
damaged_page_header() {
    fresh && flip "$work/broken" -6 1/0/0/9 && flip "$work/broken" -16 1/0/0/10 && run 1 cache verify "$work/broken" &&
        says out "train sequence 9: the page before the value is damaged" &&
        run 0 cache repair --model "$tiny" "$work/broken" && says out ": 2 records" &&
        same_stores "$work/whole" "$work/broken"
}

damaged_tokens() {
    fresh && perl -e '
        open my $file, "+<:raw", $ARGV[0] or die; local $/; my $bytes = <$file>;
        $bytes =~ /OFRT..\0.\x06\0{7}/s or die; seek $file, $-[0] + 40, 0; print $file "\7";' "$work/broken/data.mdb" &&
        flip "$work/broken" 90 1/0/0/6 1/0/0/8 && run 1 cache repair --model "$tiny" "$work/broken" &&
        says out "tokens of train sequence 6: the tokens are damaged" && says out "only the corpus has these tokens" &&
        says out "tap 1, train sequence 6: cannot be computed without its tokens" &&
        says out ": 1 records were computed again, 2 problems are left"
}

# A bit of tokens is found by trying all of them; more than that only the corpus has.
flipped_tokens() {
    fresh && perl -e '
        open my $file, "+<:raw", $ARGV[0] or die; local $/; my $bytes = <$file>;
        $bytes =~ /OFRT..\0.\x06\0{7}/s or die; seek $file, $-[0] + 40, 0;
        print $file chr(16 ^ ord substr $bytes, $-[0] + 40, 1);' "$work/broken/data.mdb" &&
        flip "$work/broken" 90 1/0/0/6 && run 1 cache verify "$work/broken" &&
        says out "tokens of train sequence 6" && run 0 cache repair --model "$tiny" "$work/broken" &&
        says out "tokens of train sequence 6: one bit was flipped" && says out ": 1 records were computed again, 0" &&
        same_stores "$work/whole" "$work/broken"
}

# A part of a tensor, and what LMDB keeps before another. Both have pages of their own: of a small one, older pages keep copies that nobody reads.
damaged_tensors() {
    fresh && perl -e '
        open my $file, "+<:raw", $ARGV[0] or die; local $/; my $bytes = <$file>; my @at;
        while ($bytes =~ /OFRS/g) { push @at, $-[0] if $-[0] % 4096 == 16 }
        seek $file, $at[0] + 60, 0; print $file "damage"; seek $file, $at[-1] - 6, 0; print $file "\0";' \
        "$work/broken/data.mdb" && run 1 cache verify "$work/broken" && says out "source: " && ! grep -q "of its 0 parts" "$work/out" &&
        run 0 cache repair --model "$tiny" "$work/broken" && says out "tensors of the model: were written again" &&
        says out ": 0 records were computed again, 0 problems" && [ -e "$work/broken/sealed" ] &&
        same_stores "$work/whole" "$work/broken"
}

damaged_parameters() {
    run 0 extract --model "$tiny" --corpus "$ids" --seq-len 128 --taps 1 --no-target --codec klt:6 --out "$work/klt" &&
        rm -rf "$work/broken" && cp -r "$work/klt" "$work/broken" && perl -e '
        open my $file, "+<:raw", $ARGV[0] or die; local $/; my $bytes = <$file>;
        $bytes =~ /OFRK/ or die "no parameters"; seek $file, $-[0] + 500, 0; print $file "damage";' \
        "$work/broken/data.mdb" && run 1 cache verify "$work/broken" && says out "codec/1" &&
        run 0 cache repair --model "$tiny" "$work/broken" && says out "restored from their copy" &&
        says out ": 0 records were computed again, 0 problems" && run 0 cache verify "$work/broken" &&
        run 0 cache export --tap 1 --out "$work/a" "$work/klt" && run 0 cache export --tap 1 --out "$work/b" "$work/broken" &&
        cmp "$work/a" "$work/b"
}

# break_pages FLAG: the pages of that kind (1 branch, 2 leaf) are cut off from what they lead to.
break_pages() {
    perl -e '
        open my $file, "+<:raw", $ARGV[0] or die; local $/; my $bytes = <$file>;
        for (my $page = 2; $page * 4096 < length $bytes; $page++) {
            my ($number, $flags) = (unpack("V", substr $bytes, $page * 4096, 4), unpack("v", substr $bytes, $page * 4096 + 10, 2));
            next if $number != $page || $flags != $ARGV[1];
            seek $file, $page * 4096 + 12, 0; print $file "\x11\x11"; }' "$work/broken/data.mdb" "$1"
}

# Branches lead nowhere: everything is found without them. A meta page is gone: the other has what it had.
damaged_structure() {
    fresh && break_pages 1 && run 1 cache verify "$work/broken" && says out "structure" &&
        run 0 cache repair --model "$tiny" "$work/broken" && says out "was built anew from the values that are right" &&
        says out ": 0 records were computed again, 0 problems" && [ -e "$work/broken/sealed" ] &&
        [ ! -e "$work/broken/salvage" ] && same_stores "$work/whole" "$work/broken" || return 1
    for meta in 0 1; do
        fresh && dd if=/dev/zero of="$work/broken/data.mdb" bs=4096 seek=$meta count=1 conv=notrunc status=none &&
            run 1 cache verify "$work/broken" && run 0 cache repair --model "$tiny" "$work/broken" &&
            says out "built anew" && [ -e "$work/broken/sealed" ] && same_stores "$work/whole" "$work/broken" || return 1
    done
}

# What a kill leaves behind the last commit, or beside the new store in its place, is seen to where all else is right.
killed_at_its_end() {
    fresh && rm "$work/broken/sealed" && mkdir "$work/broken/salvage" && cp "$work/whole/data.mdb" "$work/broken/salvage" &&
        run 0 cache repair --model "$tiny" "$work/broken" && says out ": 0 records were computed again, 0 problems" &&
        [ -e "$work/broken/sealed" ] && [ ! -e "$work/broken/salvage" ] && same_stores "$work/whole" "$work/broken"
}

# Too much of it, and nothing is changed.
lost_structure() {
    fresh && break_pages 1 && break_pages 2 && cp "$work/broken/data.mdb" "$work/before" &&
        run 1 cache repair --model "$tiny" "$work/broken" && says err "nothing was changed" &&
        cmp "$work/broken/data.mdb" "$work/before" && [ ! -e "$work/broken/salvage" ]
}

# There is no room for a second store beside the damaged one.
full_disk() {
    local disk=$work/disk
    mkdir -p "$disk" && mount -t tmpfs -o size=$(($(stat -c %s "$work/whole/data.mdb") / 1024 + 512))k none "$disk" || return 1
    fresh && break_pages 1 && cp -r "$work/broken" "$disk/broken" && cp "$disk/broken/data.mdb" "$work/before" &&
        run 1 cache repair --model "$tiny" "$disk/broken" && says err "are free: nothing was changed" &&
        cmp "$disk/broken/data.mdb" "$work/before" && [ ! -e "$disk/broken/salvage" ] && rm -r "$disk/broken"
    local result=$?
    umount "$disk"
    return $result
}

refusals() {
    fresh && flip "$work/broken" 90 1/0/0/7 && run 2 cache repair "$work/broken" && says err "--model is missing" &&
        run 2 cache repair --model tests/golden/gguf-qwen2.gguf "$work/broken" && says err "has the fingerprint" &&
        run 2 cache repair --model "$tiny" --device ref "$work/broken" && says err "Here they are ref" &&
        run 0 cache repair --model "$tiny" --device ref --allow-numerics "$work/broken" && says err "warning: records with" &&
        run 0 cache verify "$work/broken" && run 0 cache info "$work/broken" && says out "repaired    in part with the numerics ref"
}

check nothing_to_repair
check damaged_records
check named
check damaged_targets
check damaged_page_header
check damaged_tokens
check flipped_tokens
check damaged_tensors
check damaged_parameters
check damaged_structure
check killed_at_its_end
check lost_structure
check_on_tmpfs full_disk
check refusals
finish
