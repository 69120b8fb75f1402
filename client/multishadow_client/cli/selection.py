"""Which model is meant when a command names none."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from multishadow_client._control_client import ControlClient
from multishadow_client._errors import NotFound
from multishadow_client.cli.exit_code import Mistake


def file() -> Path:
    """Where `shadowctl use` keeps the choice, by the XDG base directory specification."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification says that a relative path there is to be ignored.
    base = Path(home) if home.startswith("/") else Path.home() / ".config"
    return base / "multishadow" / "shadowctl.yaml"


def remember(model: str) -> None:
    """Keep the choice. Raises Mistake when the file cannot be written."""
    path = file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"model": model}), encoding="utf-8")
    except OSError as error:
        raise Mistake(f"cannot write {path}: {error.strerror}") from error


def forget() -> None:
    """Drop the choice, if there is one."""
    file().unlink(missing_ok=True)


def remembered() -> str:
    """The choice, or "". Raises Mistake when the file is there and cannot be read."""
    path = file()
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Mistake(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Mistake(f"{path} is no YAML; `shadowctl use MODEL` writes it anew") from error
    model = stored.get("model", "") if isinstance(stored, dict) else ""
    if not isinstance(model, str):
        raise Mistake(f"{path} must hold `model: NAME`; `shadowctl use MODEL` writes it anew")
    return model


def model(named: str, control: ControlClient) -> str:
    """The model that a command is about: the one it names, the chosen one, or the only one there is.

    Raises:
        Mistake: there are several, or none.
        MultishadowError: control cannot be asked.
    """
    if chosen := named or remembered():
        return chosen
    names = [model.name for model in control.list_models().models]
    if len(names) == 1:
        return names[0]
    if not names:
        raise Mistake("there is no model yet; describe one in a file and `shadowctl apply -f model.yaml`")
    raise Mistake(
        f"which model? {', '.join(sorted(names))}: name it with --model, or choose with `shadowctl use MODEL`"
    )


def flag_key(named: str, named_model: str, control: ControlClient) -> str:
    """The key of the flag that is meant: as it stands, or `spam.A` for a version `A` of the model that is meant.

    What is or was a flag's key stays one, whatever versions are called.

    Raises:
        Mistake: versions of several models have that name.
        MultishadowError: control cannot be asked.
    """
    owners = [each.name for each in control.list_models().models if named in each.versions]
    if named_model:
        owners = [name for name in owners if name == named_model]
    if not owners or _is_known(named, control):
        return named
    if len(owners) > 1 and (chosen := remembered()) in owners:
        owners = [chosen]
    if len(owners) > 1:
        keys = ", ".join(f"{name}.{named}" for name in sorted(owners))
        raise Mistake(f"which version {named}? Say {keys}, or choose a model with --model or `shadowctl use MODEL`")
    return f"{owners[0]}.{named}"


def _is_known(key: str, control: ControlClient) -> bool:
    try:
        return bool(control.list_flag_revisions(key).revisions)
    except NotFound:
        return False


def version(name: str, named_model: str, control: ControlClient) -> tuple[str, str]:
    """The (model, version) of a flag's key `spam.A`, or of a version `A` of the model that is meant.

    Names may hold dots themselves, so what exists decides which reading is right.
    """
    models = control.list_models().models
    by_key = [
        (model.name, version) for model in models for version in model.versions if f"{model.name}.{version}" == name
    ]
    if len(by_key) == 1 and named_model in {"", by_key[0][0]}:
        return by_key[0]
    prefix, _, rest = name.partition(".")
    exists = any(name in model.versions for model in models)
    if rest and not exists and named_model in {"", prefix} and prefix in {model.name for model in models}:
        # A key of no version: control says which versions that model has.
        return prefix, rest
    return model(named_model, control), name
