"""A Slurm that has nothing new to tell: shell scripts that answer in no time.

What is measured with it is the agent, not Slurm.
"""

from pathlib import Path

from jobledger_agent.slurm.answers import JOB_COLUMNS

SACCT = r"""#!/bin/sh
echo "$*" >> "$(dirname "$0")/calls"
case " $* " in *" -e "*) cat "$(dirname "$0")/columns";; esac
"""
SDIAG = "#!/bin/sh\nprintf 'DBD Agent queue size: 0\\nJobs running:   0\\n'\n"
SACCTMGR = r"""#!/bin/sh
case "$*" in
  *"show cluster "*) echo bench;;
  *"show account format=account") echo root;;
  *"show account "*) echo "root|";;
  *"show assoc "*) echo "1|root||0|||normal|";;
  *"show user "*) echo "root|root|Administrator";;
  *"show qos format=name,usagefactor,priority") echo "normal|1.000000|0";;
  *"show qos "*) echo "normal|";;
  *"show configuration") printf 'CommitDelay = No\nPurgeJobAfter = NONE\n';;
esac
"""
SETTINGS = """\
[collector]
address = "127.0.0.1:1"
[spool]
path = "{home}/spool.db"
max_bytes = 16777216
[metrics]
listen = ""
[kick]
file = "{home}/kick"
[[source]]
kind = "sacct"
clusters = ["bench"]
sacct = "{home}/sacct"
sdiag = "{home}/sdiag"
sacctmgr = "{home}/sacctmgr"
slurm_conf = "{home}/sdiag"
poll_interval_s = {poll_interval_s}
"""


def write_programs(home: Path) -> Path:
    """Make a folder with the programs; returns it."""
    home.mkdir()
    for name, text in (("sacct", SACCT), ("sdiag", SDIAG), ("sacctmgr", SACCTMGR)):
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    (home / "columns").write_text(" ".join([*JOB_COLUMNS, "TotalCPU", "MaxRSS"]))
    (home / "kick").touch()
    return home


def settings(home: Path, poll_interval_s: int) -> Path:
    """Write the agent's settings; returns their path."""
    path = home / "agent.toml"
    path.write_text(SETTINGS.format(home=home, poll_interval_s=poll_interval_s))
    return path
