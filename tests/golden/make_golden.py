#!/usr/bin/env python3
"""Makes the small models and expected states under tests/golden/. Not run by the tests.

Every model is random, made here, and tiny. transformers runs it in f32 on the CPU; the residual stream
at every tap of two sequences goes to NAME/states.safetensors (or NAME.states.safetensors for a GGUF
file), with the token ids as "tokens" [B, T], a tap "L" or "L.mid" as [B * T, hidden] and "logits" [B * T, vocabulary].

    python3 -m venv venv && venv/bin/pip install torch transformers safetensors gguf numpy
    venv/bin/python tests/golden/make_golden.py

llama    grouped keys, head size other than hidden / heads, llama3 scaling, an older config.json; f32
bias     biases everywhere, linear scaling, as many key heads as heads; f16
mistral  a sliding window shorter than the sequences, two shards, tied; bf16
qwen2    biases of q, k and v, a window from layer 2 on; bf16
qwen3    a norm per head, tied; f16
gguf-*   GGUF files with tensors of every type that is read: llama with its scaling as rope_freqs.weight and the
         rows of q and k in GGUF's order, qwen2, qwen3
"""
import json
import math
import os
import shutil

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from safetensors.torch import save_file
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

HERE = os.path.dirname(os.path.abspath(__file__))
SEQUENCES, LENGTH = 2, 24
SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=128, attn_implementation='eager', bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)


def fill(model, seed):
    """Weights large enough that attention looks at some keys more than at others, and norms that are not 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if 'norm' in name:
            value.data = 1 + 0.2 * noise
        elif name.endswith('bias'):
            value.data = 0.3 * noise
        elif 'embed' in name:
            value.data = noise
        else:
            value.data = noise * 1.5 / math.sqrt(value.shape[1])


@torch.no_grad()
def states(model, seed):
    """{tap: [B * T, hidden] f32}, tokens [B, T] i32."""
    ids = torch.randint(0, model.config.vocab_size, (SEQUENCES, LENGTH), generator=torch.Generator().manual_seed(seed))
    taps = {}
    hooks = [model.model.embed_tokens.register_forward_hook(lambda m, i, o: taps.update({'0': o}))]
    for index, layer in enumerate(model.model.layers, 1):
        hooks.append(layer.post_attention_layernorm.register_forward_pre_hook(
            lambda m, i, name=f'{index}.mid': taps.update({name: i[0]})))
        hooks.append(layer.register_forward_hook(
            lambda m, i, o, name=str(index): taps.update({name: o[0] if isinstance(o, tuple) else o})))
    taps['logits'] = model(ids).logits
    for hook in hooks:
        hook.remove()
    result = {name: tap.reshape(SEQUENCES * LENGTH, -1).clone().contiguous() for name, tap in taps.items()}
    result['tokens'] = ids.to(torch.int32)
    return result


def make(config, dtype, seed):
    """A model of that config whose f32 weights are exact in dtype, in evaluation mode."""
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    fill(model, seed)
    for value in model.parameters():
        value.data = value.data.to(dtype).float()
    model.tie_weights()
    return model


def save(name, model, dtype, seed, shards=1, config=None):
    folder = f'{HERE}/{name}'
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    weights = {key: value.data.to(dtype).contiguous() for key, value in model.named_parameters()}
    if shards == 1:
        save_file(weights, f'{folder}/model.safetensors', metadata={'format': 'pt'})
    else:
        where = {key: f'model-{i % shards + 1:05}-of-{shards:05}.safetensors' for i, key in enumerate(weights)}
        for file in sorted(set(where.values())):
            save_file({key: weights[key] for key in weights if where[key] == file}, f'{folder}/{file}')
        with open(f'{folder}/model.safetensors.index.json', 'w') as out:
            json.dump({'metadata': {}, 'weight_map': where}, out, indent=1)
    with open(f'{folder}/config.json', 'w') as out:
        json.dump(config or model.config.to_diff_dict(), out, indent=1)
    save_file(states(model, seed), f'{folder}/states.safetensors')


def rope_freqs(head_size, theta, scaling):
    """The divisors that llama.cpp's converter writes for llama3 scaling."""
    result = []
    for pair in range(head_size // 2):
        turns = scaling['original_max_position_embeddings'] * theta ** (-2 * pair / head_size) / (2 * math.pi)
        low, high, factor = scaling['low_freq_factor'], scaling['high_freq_factor'], scaling['factor']
        share = min(max((turns - low) / (high - low), 0), 1)
        result.append(1 / ((1 - share) / factor + share))
    return np.array(result, np.float32)


def to_adjacent(rows, heads):
    """q or k rows from Hugging Face's order (pairs i, i + D/2 of a head) to GGUF's Llama order (2i, 2i + 1)."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def to_halves(rows, heads):
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


GGUF_NAMES = {
    'self_attn.q_proj': ('attn_q', Type.Q8_0), 'self_attn.k_proj': ('attn_k', Type.Q4_1),
    'self_attn.v_proj': ('attn_v', Type.Q4_0), 'self_attn.o_proj': ('attn_output', Type.F16),
    'self_attn.q_norm': ('attn_q_norm', Type.F32), 'self_attn.k_norm': ('attn_k_norm', Type.F32),
    'mlp.gate_proj': ('ffn_gate', Type.BF16), 'mlp.up_proj': ('ffn_up', Type.F32),
    'mlp.down_proj': ('ffn_down', Type.Q8_0), 'input_layernorm': ('attn_norm', Type.F32),
    'post_attention_layernorm': ('ffn_norm', Type.F32), 'embed_tokens': ('token_embd', Type.Q8_0),
    'norm': ('output_norm', Type.F32), 'lm_head': ('output', Type.F16),
}


def gguf_entry(key):
    """The GGUF name of a Hugging Face tensor, and the type it gets here."""
    stem, kind = key.removeprefix('model.').rsplit('.', 1)
    prefix = ''
    if stem.startswith('layers.'):
        _, layer, stem = stem.split('.', 2)
        prefix = f'blk.{layer}.'
    name, stored = GGUF_NAMES[stem]
    return f'{prefix}{name}.{kind}', Type.F32 if kind == 'bias' else stored


def save_gguf(name, architecture, model, seed, scaling=None):
    """Writes the file, puts what it holds after rounding back into the model, and saves that model's states."""
    config, path = model.config, f'{HERE}/{name}.gguf'
    theta, head_size = 10000.0, model.model.layers[0].self_attn.head_dim
    writer = gguf.GGUFWriter(path, architecture)
    for add, value in (('block_count', config.num_hidden_layers), ('context_length', config.max_position_embeddings),
                       ('embedding_length', config.hidden_size), ('feed_forward_length', config.intermediate_size),
                       ('head_count', config.num_attention_heads), ('head_count_kv', config.num_key_value_heads),
                       ('key_length', head_size), ('value_length', head_size), ('rope_freq_base', theta),
                       ('layer_norm_rms_eps', config.rms_norm_eps), ('bos_token_id', 1), ('eos_token_id', 2)):
        getattr(writer, 'add_' + add)(value)
    if scaling:
        writer.add_tensor('rope_freqs.weight', rope_freqs(head_size, theta, scaling))
    for key, value in model.named_parameters():
        heads = {'q_proj': config.num_attention_heads, 'k_proj': config.num_key_value_heads}.get(key.split('.')[-2])
        permuted = heads and architecture == 'llama'
        rows = value.detach().numpy()
        tensor, kind = gguf_entry(key)
        data = gguf.quantize(to_adjacent(rows, heads) if permuted else rows, kind)
        writer.add_tensor(tensor, data, raw_dtype=kind)
        rounded = gguf.dequantize(data, kind).astype(np.float32).reshape(rows.shape)
        value.data = torch.from_numpy((to_halves(rounded, heads) if permuted else rounded).copy())
    model.tie_weights()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(states(model, seed), f'{HERE}/{name}.states.safetensors')


def main():
    torch.set_num_threads(1)
    llama = make(LlamaConfig(**SIZES, num_key_value_heads=2, head_dim=16, tie_word_embeddings=False,
                             rope_parameters=dict(LLAMA3, rope_type='llama3', rope_theta=10000.0)), torch.float32, 1)
    older = {key: value for key, value in llama.config.to_diff_dict().items() if key != 'rope_parameters'}
    older.update(rope_theta=10000.0, rope_scaling=dict(LLAMA3, rope_type='llama3'))
    save('llama', llama, torch.float32, 1, config=older)
    save('bias', make(LlamaConfig(**SIZES, num_key_value_heads=4, attention_bias=True, mlp_bias=True,
                                  rope_parameters=dict(rope_type='linear', factor=2.0, rope_theta=10000.0)),
                      torch.float16, 2), torch.float16, 2)
    save('mistral', make(MistralConfig(**SIZES, num_key_value_heads=2, head_dim=16, sliding_window=7,
                                       tie_word_embeddings=True), torch.bfloat16, 3), torch.bfloat16, 3, shards=2)
    save('qwen2', make(Qwen2Config(**SIZES, num_key_value_heads=1, use_sliding_window=True, sliding_window=5,
                                   max_window_layers=1), torch.bfloat16, 4), torch.bfloat16, 4)
    save('qwen3', make(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True),
                       torch.float16, 5), torch.float16, 5)
    save_gguf('gguf-llama', 'llama', llama, 6, LLAMA3)
    save_gguf('gguf-qwen2', 'qwen2', make(Qwen2Config(**SIZES, num_key_value_heads=2), torch.float32, 7), 7)
    save_gguf('gguf-qwen3', 'qwen3', make(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16,
                                                      tie_word_embeddings=True), torch.float32, 8), 8)


if __name__ == '__main__':
    main()
