@echo off
rem Start Futu: start.bat [mode] [options]; start.bat --help lists them.
rem Makes the environment .venv first where it is missing or out of date.
setlocal
cd /d "%~dp0"
set "VENV_PYTHON=.venv\Scripts\python.exe"
set "RECENT=import sys; sys.exit(sys.version_info < (3, 11))"

rem Copies of both files lie in the environment; while they match, nothing is to install.
"%VENV_PYTHON%" -c "%RECENT%" >nul 2>&1 || goto find_python
fc /b pyproject.toml .venv\futu-pyproject.toml >nul 2>&1 || goto check_pip
fc /b constraints.txt .venv\futu-constraints.txt >nul 2>&1 || goto check_pip
goto run

:check_pip
"%VENV_PYTHON%" -m pip --version >nul 2>&1 && goto install

:find_python
if not defined FUTU_PYTHON goto find_launcher
"%FUTU_PYTHON%" -c "%RECENT%" >nul 2>&1 || goto bad_choice
set PYTHON_COMMAND="%FUTU_PYTHON%"
goto create

:find_launcher
set "PYTHON_COMMAND=py -3"
py -3 -c "%RECENT%" >nul 2>&1 && goto create
set "PYTHON_COMMAND=python"
python -c "%RECENT%" >nul 2>&1 && goto create
echo Futu needs Python 3.11 or later and found none; install one, or name it in FUTU_PYTHON. 1>&2
exit /b 1

:bad_choice
echo FUTU_PYTHON names something that is not a Python 3.11 or later that runs. 1>&2
exit /b 1

:create
echo Making the environment .venv; the first time takes some minutes. 1>&2
if exist .venv rmdir /s /q .venv
%PYTHON_COMMAND% -m venv .venv 1>&2 && goto install
if exist .venv rmdir /s /q .venv
echo The environment .venv could not be made. 1>&2
exit /b 1

:install
if exist .venv\futu-pyproject.toml del .venv\futu-pyproject.toml
"%VENV_PYTHON%" -m pip install --quiet --disable-pip-version-check -e . -c constraints.txt 1>&2
if errorlevel 1 goto install_failed
copy /y constraints.txt .venv\futu-constraints.txt >nul
copy /y pyproject.toml .venv\futu-pyproject.toml >nul
goto run

:install_failed
echo Installing Futu into .venv failed; the lines above say why. 1>&2
exit /b 1

:run
"%VENV_PYTHON%" run.py %*
exit /b %ERRORLEVEL%
