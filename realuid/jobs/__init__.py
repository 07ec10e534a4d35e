"""What the commands do, once their options are read. Everything here may import torch.

train, sample, evaluate, study, check, teacher_error, export, make_shards, tiny_text, new, inspect_checkpoint
                     the job of the command of that name; `work` takes its options
runs, digests        a run's model, ready to be sampled, and what it depends on
teacher_runs         where a distillation's teacher is trained
first_look, started, plan     before a run: what can be wrong, what is recorded, what it would cost
recipe               the gin file that `new` writes
mistakes             what a command answers with one line
"""
