"""Asks `transformers` what it makes of model folders, in an environment apart.

  python ask_transformers.py FOLDER...

leaves in each folder `answers.npz`:
  tokens     [R, L] int32: prompts, and greedy completions without the token 0
  start      where the completions start
  log_probs  [R, L, V] float32, at every position; where there is a text.txt,
             [1, L - 1] of its tokens and their completion
and `answers.json`: what it could not read, ids of texts, and stop tokens; or
`error` alone. It needs torch, transformers and jinja2, and no jax.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers

TEXTS = ("Hi", " \na\n\n  b2 ", "1 < 2 <b>\u00e9</b>")
ROWS, PROMPT, NEW_TOKENS = 2, 12, 8


def main():
  transformers.logging.set_verbosity_error()
  for name in sys.argv[1:]:
    folder = pathlib.Path(name)
    try:
      answers = ask(folder)
    except Exception as error:
      answers = {"error": f"{type(error).__name__}: {error}"}
    (folder / "answers.json").write_text(json.dumps(answers))


def ask(folder):
  model, info = transformers.AutoModelForCausalLM.from_pretrained(
    folder,
    dtype=torch.float32,
    attn_implementation="eager",
    output_loading_info=True,
  )
  model.eval()
  config = model.config.get_text_config()
  rng = np.random.default_rng(1)
  prompts = rng.integers(3, min(config.vocab_size, 128), (ROWS, PROMPT))
  prompts[:, 0] = 2
  answers = {key: sorted(map(str, info[key])) for key in info}
  answers["stops"] = model.generation_config.eos_token_id
  answers |= of_text(folder)
  if "text" in answers:  # the real one: sentences and not noise
    prompts = np.array([answers["text"]])
  tokens = torch.tensor(prompts, dtype=torch.long)
  with torch.no_grad():
    whole = model.generate(
      tokens,
      attention_mask=torch.ones_like(tokens),
      do_sample=False,
      suppress_tokens=[0],
      eos_token_id=None,
      max_new_tokens=NEW_TOKENS,
    )
    if "text" in answers:  # in float32 it may err by 1e-4 here, and we by 3e-5
      model = model.double()
    logits = model(whole, attention_mask=torch.ones_like(whole)).logits
  log_probs = torch.log_softmax(logits, dim=-1)
  if "text" in answers:  # of the tokens alone: the vocabulary is large
    log_probs = log_probs[:, :-1].gather(2, whole[:, 1:, None])[..., 0]
  np.savez(
    folder / "answers.npz",
    tokens=whole.numpy().astype(np.int32),
    start=prompts.shape[1],
    log_probs=log_probs.numpy(),
  )
  return answers


def of_text(folder):
  """Ids of texts, as they are and as a turn; {} without a tokenizer."""
  if not (folder / "tokenizer.json").exists():
    return {}
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  out = {"eos": tokenizer.eos_token_id}
  out["plain"] = [tokenizer(text).input_ids for text in TEXTS]
  if tokenizer.chat_template:
    out["turns"] = [
      tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        add_generation_prompt=True,
        return_dict=False,
      )
      for text in TEXTS
    ]
  if (folder / "text.txt").exists():
    out["text"] = tokenizer((folder / "text.txt").read_text()).input_ids
  return out


if __name__ == "__main__":
  main()
